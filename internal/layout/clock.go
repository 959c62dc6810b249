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

// wallCalls are the methods of time.Time that read the wall clock in it, or leave
// nothing else of it.
func wallCalls() []string {
	return []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "UTC", "Local", "In", "Round", "Truncate"}
}

// wallFiles may call them, for the reason given.
func wallFiles() map[string]string {
	return map[string]string{
		"internal/l2/memory.go":         "where a clock of its own begins, which then is monotonic",
		"internal/l2/redis_identity.go": "what Redis says its clock shows",
		"internal/l2/redis_shard.go":    "statistics",
		"internal/l2/redis_watch.go":    "what Redis says its clock shows",
	}
}

// checkClocks names what reads the wall clock in the packages that keep promises:
// the clocks of nodes may be hours apart, and jump.
func checkClocks(tree fs.FS, calls []string, excused map[string]string) ([]string, error) {
	var wrong []string
	err := goFiles(tree, func(name string, src []byte) {
		if strings.HasSuffix(name, "_test.go") || excused[name] != "" || !keepsPromises(name) {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			wrong = append(wrong, err.Error())
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			// A package's function of that name (reflect's, say) has more arguments.
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && len(call.Args) == 0 && slices.Contains(calls, f.Sel.Name) {
				wrong = append(wrong, fmt.Sprintf("%s: %s reads the wall clock", fset.Position(call.Pos()), f.Sel.Name))
			}
			return true
		})
	})
	return wrong, err
}

func keepsPromises(name string) bool {
	dir := path.Dir(name)
	return dir == "tier" || dir == "invalidation" ||
		strings.HasPrefix(dir, "internal/") && !slices.Contains([]string{"internal/redistest", "internal/history", "internal/layout"}, dir) && !strings.HasPrefix(dir, "internal/examples")
}
