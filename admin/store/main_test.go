package store

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"klink/admin/aclsync"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// clientOptions returns the options of klink's own clients, so that requests and responses pass the
// guard.
func clientOptions(t testing.TB, seeds ...string) []kgo.Opt {
	opts, err := kafkaclient.Properties{"bootstrap.servers": strings.Join(seeds, ",")}.Options()
	require.NoError(t, err)
	return opts
}

func testKey(t testing.TB, fill byte) *SecretsKey {
	k, err := ParseSecretsKey(strings.Repeat(string("0123456789abcdef"[fill]), 64))
	require.NoError(t, err)
	return k
}

// numberedACL returns an ACL that differs for each i.
func numberedACL(i int) aclsync.Binding {
	return aclsync.Binding{ResourceType: 2, Pattern: 3, Name: fmt.Sprint("t", i), Principal: "User:a", Host: "*", Operation: 3, Permission: 3}
}

// testLogger logs to the test, until it ends.
func testLogger(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}
