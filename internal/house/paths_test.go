package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPathsInDocumentsExist: what DESIGN.md, CONTRIBUTING.md and AGENTS.md name is there.
func TestPathsInDocumentsExist(t *testing.T) {
	named := regexp.MustCompile("`((?:admin|bench|cmd|docs|internal|protocol|proxy|replicator|router|telemetry)(?:/[a-zA-Z0-9_*.-]+)*)`")
	for _, doc := range []string{"DESIGN.md", "CONTRIBUTING.md", "AGENTS.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", doc))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "NN_name") {
				continue // a rule for names
			}
			found++
			if paths, err := filepath.Glob(filepath.Join("..", "..", m[1])); err != nil || len(paths) == 0 {
				t.Errorf("%s names %s, which does not exist", doc, m[1])
			}
		}
		if found == 0 && doc != "AGENTS.md" {
			t.Errorf("%s names no path: this is no test", doc)
		}
	}
}
