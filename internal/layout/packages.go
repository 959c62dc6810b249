package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// module is the path of the root module.
const module = "github.com/tandemcache/tandem"

// pkg is a package of the root module, as go list describes it.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// name is the package's path inside the module, "." for the root.
func (p *pkg) name() string { return inside(p.ImportPath) }

// inside makes the import path of a package of ours relative to the module, and
// leaves any other as it is.
func inside(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// ours reports whether an import path is of this module.
func ours(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// listPackages runs go list in dir.
func listPackages(dir string) ([]pkg, error) {
	// -e: a package that does not compile is another test's concern.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return pkgs, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		case !ours(p.ImportPath): // with -e a pattern that matches nothing is listed, too
			return nil, fmt.Errorf("go list in %s: %s is not of this module", dir, p.ImportPath)
		}
		pkgs = append(pkgs, p)
	}
}
