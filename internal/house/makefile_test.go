package house

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSlowTestsExist: `make check` leaves out only tests that there are. A test that was renamed
// would run in it again.
func TestSlowTestsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(text), "\nSLOW := \\\n")
	list, _, end := strings.Cut(strings.ReplaceAll(list, "\\\n", ""), "\n")
	if !ok || !end {
		t.Fatal("the Makefile has no list SLOW")
	}
	tests := map[string]bool{}
	for _, f := range repository(t) {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && f.test() {
				tests[d.Name.Name] = true
			}
		}
	}
	for _, name := range strings.Fields(list) {
		if !tests[name] {
			t.Errorf("SLOW in the Makefile has %s, which is no test any more", name)
		}
	}
}
