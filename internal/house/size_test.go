package house

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	// maxFile is the size of a file that still tells one story.
	maxFile = 20 << 10
	// maxComment is the width of comments, a tab being one column.
	maxComment = 100
	// maxPackage is how many files, without tests, a package may have.
	maxPackage = 45
)

func TestFilesAreSmall(t *testing.T) {
	for _, f := range repository(t) {
		if !f.test() && !ast.IsGenerated(f.ast) && len(f.text) > maxFile {
			t.Errorf("%s has %d bytes, more than %d: split it by topic", f.path, len(f.text), maxFile)
		}
	}
}

func TestPackagesAreSmall(t *testing.T) {
	files := map[string]int{}
	for _, f := range repository(t) {
		if !f.test() {
			files[f.dir()]++
		}
	}
	for dir, n := range files {
		if n > maxPackage {
			t.Errorf("%s has %d files, more than %d: split it", dir, n, maxPackage)
		}
	}
}

// directive is a comment for a tool.
var directive = regexp.MustCompile(`^//[a-z]+:`)

func TestCommentsAreNarrow(t *testing.T) {
	for _, f := range repository(t) {
		lines := strings.Split(string(f.text), "\n")
		for _, g := range f.ast.Comments {
			for _, c := range g.List {
				from, to := f.line(c.Pos()), f.line(c.End())
				for n := from; n <= to; n++ {
					line := strings.TrimSuffix(lines[n-1], "\r")
					if n == from && !strings.HasPrefix(strings.TrimLeft(line, " \t"), c.Text[:2]) {
						continue // behind code
					}
					if width := utf8.RuneCountInString(line); width > maxComment && !directive.MatchString(c.Text) {
						t.Errorf("%s:%d: a comment of %d columns, more than %d", f.path, n, width, maxComment)
					}
				}
			}
		}
	}
}
