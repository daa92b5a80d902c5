package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// root is the root of the repository.
const root = "../.."

// file is a Go file of the repository, parsed, whatever its build constraints.
type file struct {
	path string // from the root, with slashes
	text []byte
	ast  *ast.File
}

func (f *file) dir() string          { return path.Dir(f.path) }
func (f *file) test() bool           { return strings.HasSuffix(f.path, "_test.go") }
func (f *file) line(p token.Pos) int { return fset.Position(p).Line }

// under reports whether the file is in one of the directories, or below it.
func (f *file) under(dirs ...string) bool {
	for _, d := range dirs {
		if f.dir() == d || strings.HasPrefix(f.path, d+"/") {
			return true
		}
	}
	return false
}

var fset = token.NewFileSet()

var parsed = sync.OnceValues(func() (files []*file, err error) {
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := e.Name(); e.IsDir() {
			if base == "testdata" || base == "bin" || name != root && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		tree, err := parser.ParseFile(fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, &file{rel, text, tree})
		return nil
	})
	return files, err
})

// repository returns all Go files, those of modules within it too.
func repository(t *testing.T) []*file {
	t.Helper()
	files, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("only %d Go files below %s: is this the repository?", len(files), root)
	}
	return files
}
