package layout

import (
	"encoding/json"
	"fmt"
	"os/exec"
)

// goMod is what go mod edit -json says of a go.mod, as far as rules need it.
type goMod struct {
	Replace   []struct{ Old, New struct{ Path string } }
	Tool      []struct{ Path string }
	Toolchain string
}

// readGoMod reads the go.mod in dir.
func readGoMod(dir string) (goMod, error) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return goMod{}, fmt.Errorf("go mod edit: %w", err)
	}
	var m goMod
	return m, json.Unmarshal(out, &m)
}

// checkGoMod names what the go.mod of a library must not hold.
func checkGoMod(m *goMod) []string {
	var wrong []string
	for _, r := range m.Replace {
		wrong = append(wrong, fmt.Sprintf("go.mod replaces %s: users of a library do not get its replacements", r.Old.Path))
	}
	for _, tool := range m.Tool {
		wrong = append(wrong, fmt.Sprintf("go.mod names the tool %s: tools would become dependencies of users; see .ci/versions", tool.Path))
	}
	if m.Toolchain != "" {
		wrong = append(wrong, "go.mod names a toolchain: that is the choice of whoever builds")
	}
	return wrong
}
