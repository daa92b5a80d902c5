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
	{"internal/retry", nil},
	{"internal/parallel", nil},
	{"internal/principal", nil},
	{"internal/sasllogin", []string{"protocol"}},
	{"internal/kafkaclient", []string{"internal/principal", "protocol"}},
	{"internal/follow", nil},
	{"internal/credentials", []string{"internal/follow", "internal/kafkaclient"}},
	{"internal/saslserver", []string{"internal/follow"}},
	{"internal/config", []string{"internal/kafkaclient", "internal/principal"}},
	{"router", []string{"protocol"}},
	{"proxy", []string{"router"}},
	{"internal/gate", []string{"internal/credentials", "internal/follow", "internal/principal", "internal/sasllogin", "internal/saslserver", "protocol", "proxy", "router"}},
	{"admin/model", []string{"protocol"}},
	{"admin/sourceerror", []string{"admin/model", "internal/kafkaclient"}},
	{"admin/filter", nil},
	{"admin/caslog", []string{"internal/kafkaclient", "internal/retry"}},
	{"admin/aclsync", []string{"admin/filter", "internal/kafkaclient", "protocol"}},
	{"admin/linkconfig", []string{"admin/aclsync", "admin/filter", "admin/model", "internal/kafkaclient", "protocol"}},
	{"admin/facts", []string{"internal/kafkaclient", "protocol", "router"}},
	{"admin/topicconfig", []string{"admin/linkconfig", "internal/kafkaclient"}},
	{"admin/store", []string{"admin/aclsync", "admin/caslog", "admin/linkconfig", "admin/model", "admin/topicconfig", "internal/jsonbound", "internal/kafkaclient", "protocol", "router"}},
	{"admin/sources", []string{"admin/aclsync", "admin/linkconfig", "admin/model", "admin/sourceerror", "admin/store", "admin/topicconfig", "internal/kafkaclient", "protocol"}},
	{"admin/transactions", []string{"internal/retry", "protocol"}},
	{"admin/notices", []string{"admin/model", "admin/store", "admin/topicconfig", "protocol"}},
	{"admin/needs", []string{"admin/linkconfig", "admin/topicconfig", "internal/kafkaclient", "protocol"}},
	{"admin/groups", []string{"admin/model", "internal/kafkaclient", "internal/retry"}},
	{"admin/offsets", []string{"admin/groups", "admin/model", "admin/sources", "admin/store", "internal/kafkaclient", "internal/parallel", "internal/retry"}},
	{"admin", []string{"admin/needs", "admin/store", "admin/groups", "admin/offsets", "admin/topicconfig", "admin/sources", "admin/transactions", "admin/notices", "internal/parallel", "admin/facts", "admin/linkconfig", "admin/sourceerror", "admin/model", "admin/filter", "admin/caslog", "admin/aclsync", "internal/jsonbound", "internal/kafkaclient", "internal/retry", "protocol", "router"}},
	{"replicator/memory", nil},
	// The core of a partition can reach no socket.
	{"replicator/core", []string{"admin/model", "protocol", "replicator/memory"}},
	{"replicator/group", nil},
	{"replicator/wire", []string{"internal/kafkaclient", "internal/sasllogin", "protocol"}},
	{"replicator", []string{"admin/linkconfig", "admin/model", "admin/sourceerror", "internal/jsonbound", "internal/kafkaclient", "internal/retry", "protocol", "replicator/core", "replicator/group", "replicator/memory", "replicator/wire"}},
	{"telemetry", []string{"admin/model", "protocol", "proxy", "replicator"}},

	// Tools, tests and benchmarks.
	{"internal/house", nil},
	{"internal/shapegen", nil},
	{"internal/kafkatest", nil},
	{"internal/batchtest", []string{"protocol"}},
	{"internal/e2e", []string{"internal/kafkatest"}},
	{"bench/wire", nil},
	{"bench/load", nil},
	{"bench", []string{"internal/kafkatest"}},
	{"bench/page", []string{"bench"}},
	{"bench/proxy", []string{"bench", "bench/wire", "internal/kafkatest"}},
	{"bench/mirror", []string{"bench", "bench/wire", "internal/kafkatest", "protocol"}},

	{"cmd", []string{
		"admin", "admin/needs", "admin/facts", "admin/linkconfig", "admin/filter", "admin/model", "bench", "bench/load", "bench/mirror", "bench/page", "bench/proxy", "internal/config", "internal/kafkaclient", "telemetry", "protocol", "proxy", "replicator", "router", "admin/store",
		"internal/credentials", "internal/follow", "internal/gate", "internal/saslserver",
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
