package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// checkTests names the calls in tests that make them flaky or let them lie:
// time.Sleep and t.Skip.
//
// A sleep in a synctest bubble is no waiting: it moves the test's own clock,
// exactly. So it may stand in a function that is given to synctest.Test, or to a
// function of the same tests that calls synctest.Test, and in a helper that is
// called from nowhere else. Anywhere else it is a guess.
func checkTests(tree fs.FS) ([]string, error) {
	suites := make(map[string]*suite)
	var wrong []string
	err := goFiles(tree, func(name string, src []byte) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		dir := path.Dir(name)
		if suites[dir] == nil {
			suites[dir] = &suite{fset: token.NewFileSet()}
		}
		if err := suites[dir].add(name, src); err != nil {
			wrong = append(wrong, err.Error())
		}
	})
	for _, s := range suites {
		wrong = append(wrong, s.check()...)
	}
	slices.Sort(wrong)
	return wrong, err
}

// suite is the test files of one directory.
type suite struct {
	fset  *token.FileSet
	files []*ast.File
	calls []call
}

// call is a call of a function, or its mention where a bubble begins.
type call struct {
	at               token.Pos
	receiver, method string // x.F(...) is "x", "F"; F(...) is "", "F"
	in               string // the function around it
	bubble           bool   // it stands in a function that a bubble is given
}

func (s *suite) add(name string, src []byte) error {
	file, err := parser.ParseFile(s.fset, name, src, parser.SkipObjectResolution)
	if err == nil {
		s.files = append(s.files, file)
	}
	return err
}

// check names what is wrong with the suite.
func (s *suite) check() []string {
	s.collect()
	inBubble := s.helpers()
	var wrong []string
	for _, c := range s.calls {
		switch {
		case c.receiver == "time" && c.method == "Sleep" && !c.bubble && !inBubble[c.in]:
			wrong = append(wrong, fmt.Sprintf("%s: time.Sleep outside of a synctest bubble: wait for the thing itself", s.fset.Position(c.at)))
		case isTest(c.receiver) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, c.method):
			wrong = append(wrong, fmt.Sprintf("%s: a skipped test is how a green run lies: fail, and say what is missing", s.fset.Position(c.at)))
		}
	}
	return wrong
}

// isTest reports whether an identifier is, by the custom of Go, a test.
func isTest(name string) bool { return slices.Contains([]string{"t", "b", "f", "tb"}, name) }

// collect fills calls.
func (s *suite) collect() {
	begins := s.begins()
	for _, file := range s.files {
		for _, decl := range file.Decls {
			in := ""
			if fn, ok := decl.(*ast.FuncDecl); ok {
				in = fn.Name.Name
			}
			s.walk(decl, in, false, begins)
		}
	}
}

// begins returns the functions that begin a bubble: they call synctest.Test.
func (s *suite) begins() map[string]bool {
	names := map[string]bool{"synctest.Test": true}
	for _, file := range s.files {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if x, ok := n.(*ast.CallExpr); ok {
					if receiver, method := callee(x.Fun); receiver == "synctest" && method == "Test" {
						names[fn.Name.Name] = true
					}
				}
				return true
			})
		}
	}
	return names
}

// walk collects the calls under n.
func (s *suite) walk(n ast.Node, in string, bubble bool, begins map[string]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		x, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		receiver, method := callee(x.Fun)
		if method == "" {
			return true
		}
		s.calls = append(s.calls, call{at: x.Pos(), receiver: receiver, method: method, in: in, bubble: bubble})
		if !begins[method] && !begins[receiver+"."+method] {
			return true
		}
		for _, arg := range x.Args {
			if _, name := callee(arg); name != "" { // a function by its name
				s.calls = append(s.calls, call{at: arg.Pos(), method: name, in: in, bubble: true})
				continue
			}
			_, literal := arg.(*ast.FuncLit)
			s.walk(arg, in, bubble || literal, begins)
		}
		return false
	})
}

// callee returns what x.F or F names; "" if it is neither.
func callee(fun ast.Expr) (receiver, name string) {
	switch fun := fun.(type) {
	case *ast.Ident:
		return "", fun.Name
	case *ast.SelectorExpr:
		if x, ok := fun.X.(*ast.Ident); ok {
			receiver = x.Name
		}
		return receiver, fun.Sel.Name
	}
	return "", ""
}

// helpers returns the functions that run in bubbles only: called, and from
// nowhere else. It begins with all that are called and takes out whatever has a
// call outside, until nothing changes, so that helpers may call each other.
// Functions of one name are taken for one.
func (s *suite) helpers() map[string]bool {
	in := make(map[string]bool)
	for _, c := range s.calls {
		in[c.method] = true
	}
	for changed := true; changed; {
		changed = false
		for _, c := range s.calls {
			if in[c.method] && !c.bubble && !in[c.in] {
				delete(in, c.method)
				changed = true
			}
		}
	}
	return in
}
