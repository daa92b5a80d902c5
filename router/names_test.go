package router

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The file of a handler has the API key in its name, and registers that key and no other.
func TestHandlersAreInTheFilesOfTheirKeys(t *testing.T) {
	files, err := filepath.Glob("[0-9][0-9]_*.go")
	if err != nil {
		t.Fatal(err)
	}
	registers := regexp.MustCompile(`\bregister(?:Control)?\(int16\(kmsg\.(\w+)\)`)
	handled := map[int16]bool{}
	for _, file := range files {
		if ok, _ := filepath.Match("*_test.go", file); ok {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		key, _ := strconv.Atoi(file[:2])
		found := registers.FindAllSubmatch(text, -1)
		if len(found) != 1 || string(found[0][1]) != kmsg.NameForKey(int16(key)) {
			t.Errorf("%s registers %q, want %s alone", file, found, kmsg.NameForKey(int16(key)))
		}
		handled[int16(key)] = true
	}
	for key := range handlers {
		if handlers[key] != nil && !handled[int16(key)] {
			t.Errorf("no file is named after key %d", key)
		}
	}
}
