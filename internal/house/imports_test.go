package house

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows are the groups of packages, from the bottom up, and the groups that each may import. A
// group is a directory and everything below it. A group may only name groups above it in this
// table, so every arrow points down. To the packages of its own group a package is free.
var arrows = []struct {
	group   string
	imports []string
}{
	{"protocol", nil},
	{"internal/jsonbound", nil},
	{"internal/kafkaclient", []string{"protocol"}},
	{"internal/config", []string{"internal/kafkaclient"}},
	{"router", []string{"protocol"}},
	{"proxy", []string{"router"}},
	{"admin", []string{"internal/jsonbound", "internal/kafkaclient", "protocol", "router"}},
	{"replicator", []string{"admin", "internal/jsonbound", "internal/kafkaclient", "protocol"}},
	{"internal/telemetry", []string{"admin", "protocol", "proxy", "replicator"}},

	// Tools, tests and benchmarks.
	{"internal/house", nil},
	{"internal/shapegen", nil},
	{"internal/kafkatest", nil},
	{"internal/e2e", []string{"internal/kafkatest"}},
	{"bench", []string{"internal/kafkatest", "protocol"}},

	{"cmd", []string{
		"admin", "bench", "internal/config", "internal/kafkaclient", "internal/telemetry", "protocol", "proxy", "replicator", "router",
	}},
}

// module is the path of klink's module. Modules within it are not klink's code.
const module = "klink/"

func TestImportsPointDown(t *testing.T) {
	allowed, groups := map[string][]string{}, []string{}
	for _, a := range arrows {
		for _, to := range a.imports {
			if !slices.Contains(groups, to) {
				t.Errorf("the table lets %s import %s, which is not above it in the table", a.group, to)
			}
		}
		groups, allowed[a.group] = append(groups, a.group), a.imports
	}
	group := func(dir string) string {
		for ; dir != "."; dir = path.Dir(dir) {
			if slices.Contains(groups, dir) {
				return dir
			}
		}
		return ""
	}
	for _, f := range repository(t) {
		if f.test() || f.under("internal/clienttest") {
			continue
		}
		from := group(f.dir())
		if from == "" {
			t.Errorf("%s: its directory is in no group of the table", f.path)
			continue
		}
		for _, i := range f.ast.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			dir, ours := strings.CutPrefix(name, module)
			if to := group(dir); ours && to != from && !slices.Contains(allowed[from], to) {
				t.Errorf("%s:%d: %s must not import %s", f.path, f.line(i.Pos()), from, name)
			}
		}
	}
}
