package needs

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of the documents")

// section compares what stands between two texts of a document with what it should be.
func section(t *testing.T, path, begin, end, want string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok1 := strings.Cut(string(raw), begin)
	got, after, ok2 := strings.Cut(rest, end)
	require.True(t, ok1 && ok2, "%s: %q is gone", path, begin)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(before+begin+want+end+after), 0o644))
		return
	}
	require.Equal(t, want, got, "run go test ./admin/needs -run TestDocs -rewrite and look at the difference")
}

// TestDocs: the tables of rights in docs/operations.md, which end-to-end tests give klink, and the
// tables of needs in docs/vendors.md are those of this package.
func TestDocs(t *testing.T) {
	const operations, vendors = "../../docs/operations.md", "../../docs/vendors.md"
	section(t, operations, "klink's principal at the destination needs:\n\n", "\nklink's principal should also have", Rights(Destination))
	section(t, operations, "The principal of a link needs this at its source, and no more:\n\n", "\nThe end-to-end tests give", Rights(Source))
	for _, side := range []Side{Destination, Source} {
		section(t, vendors, "<!-- needs: "+string(side)+" -->\n", "<!-- end of needs -->", Markdown(side))
	}
}

// TestTable: every need says for what it is and what is lost without it, under a name of its own.
func TestTable(t *testing.T) {
	for _, side := range []Side{Destination, Source} {
		seen := map[string]bool{}
		for _, n := range Table(side) {
			require.False(t, seen[n.Kind+n.Name], n.Name)
			seen[n.Kind+n.Name] = true
			require.NotEmpty(t, n.Use, n.Name)
			require.NotEmpty(t, n.Lost, n.Name)
			require.NotEqual(t, "Unknown", n.Name, "kmsg does not know the key")
			require.Contains(t, []string{KindAPI, KindRight, KindLimit}, n.Kind, n.Name)
			require.Equal(t, n.Kind == KindLimit, n.limit != nil, n.Name)
		}
	}
}
