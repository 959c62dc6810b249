package layout

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// rootEntries are what the root of the repository may hold. Those that git
// ignores stand there because this looks at the disk.
func rootEntries() []string {
	return []string{
		".cache", ".ci", ".git", ".gitattributes", ".github", ".gitignore", ".golangci.yml",
		"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "go.mod", "go.sum",
		"bench", "codec", "internal", "invalidation", "keys", "tier",
	}
}

// maxLines is how long a file of the library may be. Past it stands a question
// of design, not of style.
const maxLines = 400

// excused are the longer files, each with its reason.
func excused() map[string]string {
	return map[string]string{
		"internal/l2/scripts.go": "the Lua scripts and what they share, to be read beside each other",
	}
}

// checkRoot names the entries of the root that do not belong there.
func checkRoot(tree fs.FS, allowed []string) ([]string, error) {
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			wrong = append(wrong, e.Name()+": the root holds only what rootEntries lists")
		}
	}
	return wrong, nil
}

// goFiles calls visit with every Go file of the house, nested modules included.
func goFiles(tree fs.FS, visit func(name string, src []byte)) error {
	return fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (d.Name()[0] == '.' || d.Name()[0] == '_' || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err == nil {
			visit(name, src)
		}
		return err
	})
}

// checkLength names the files that are too long, and excuses that excuse none.
func checkLength(tree fs.FS, limit int, excused map[string]string) ([]string, error) {
	var wrong []string
	used := make(map[string]bool)
	err := goFiles(tree, func(name string, src []byte) {
		lines := bytes.Count(src, []byte("\n"))
		if strings.HasSuffix(name, "_test.go") || lines <= limit {
			return
		}
		if used[name] = true; excused[name] == "" {
			wrong = append(wrong, fmt.Sprintf("%s: %d lines, at most %d: split it by concern, or give a reason in excused", name, lines, limit))
		}
	})
	for name := range excused {
		if !used[name] {
			wrong = append(wrong, name+": is excused for its length, and is not too long or not there")
		}
	}
	slices.Sort(wrong)
	return wrong, err
}

// checkComments names the packages that have not exactly one package comment,
// or one that does not begin as it must.
func checkComments(tree fs.FS) ([]string, error) {
	type found struct {
		name  string   // of the package
		files []string // with a comment
		text  string   // of the last one
	}
	dirs := make(map[string]*found)
	var wrong []string
	err := goFiles(tree, func(name string, src []byte) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			wrong = append(wrong, err.Error())
			return
		}
		dir := path.Dir(name)
		if dirs[dir] == nil {
			dirs[dir] = &found{}
		}
		f := dirs[dir]
		f.name = file.Name.Name
		if file.Doc != nil {
			f.files = append(f.files, path.Base(name))
			f.text = file.Doc.Text()
		}
	})
	for dir, f := range dirs {
		switch {
		case len(f.files) != 1:
			wrong = append(wrong, fmt.Sprintf("%s: %d package comments %v, not one", dir, len(f.files), f.files))
		case f.name != "main" && !strings.HasPrefix(f.text, "Package "+f.name+" "):
			wrong = append(wrong, fmt.Sprintf("%s: the package comment does not begin with %q", dir, "Package "+f.name))
		}
	}
	slices.Sort(wrong)
	return wrong, err
}
