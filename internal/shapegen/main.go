// Command shapegen writes protocol/shapes.go: the shapes of all Kafka messages that kmsg can
// decode.
//
// It reads the source of kmsg's decoder, so a shape describes exactly what kmsg will read, tagged
// fields included. A decoder in a form that shapegen does not know is an error. Run it with `go
// generate ./protocol` after an update of kmsg.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: shapegen FILE")
		os.Exit(2)
	}
	text, err := generate()
	if err == nil {
		err = os.WriteFile(os.Args[1], text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shapegen:", err)
		os.Exit(1)
	}
}

const kmsgModule = "github.com/twmb/franz-go/pkg/kmsg"

// generate returns the text of protocol/shapes.go.
func generate() ([]byte, error) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", kmsgModule).Output()
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", kmsgModule, err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "generated.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	decoders := map[string]*ast.FuncDecl{}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "readFrom" {
			decoders[f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name] = f
		}
	}
	return write(decoders)
}
