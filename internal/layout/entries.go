package layout

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

// bareEntry is an l1.Entry that is no pointer to one: its key lies behind it, where
// only l1.NewEntry makes room.
var bareEntry = regexp.MustCompile(`[^*]\bl1\.Entry\[`)

// checkEntries names entries that are made or copied outside of their package.
func checkEntries(tree fs.FS) ([]string, error) {
	var wrong []string
	err := goFiles(tree, func(name string, src []byte) {
		if strings.HasPrefix(name, "internal/l1/") || name == "internal/layout/rules_test.go" {
			return
		}
		for i, line := range bytes.Split(src, []byte("\n")) {
			if bareEntry.Match(line) {
				wrong = append(wrong, fmt.Sprintf("%s:%d: an l1.Entry is made by l1.NewEntry and used as a pointer", name, i+1))
			}
		}
	})
	return wrong, err
}
