package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"klink/internal/config"
)

// world is two embedded clusters with klink in front of the second, and a user's config directory
// with the contexts src (the source), dst (klink, the current one) and direct (the destination
// without klink).
type world struct {
	t                          *testing.T
	dir                        string
	source, destination, klink string
	server                     *server
}

// newWorld starts klink with the given flags and those that it needs.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	source, err := embeddedCluster("source-id")
	require.NoError(t, err)
	t.Cleanup(source.Close)
	destination, err := embeddedCluster("destination-id")
	require.NoError(t, err)
	t.Cleanup(destination.Close)
	w := &world{t: t, dir: t.TempDir(), source: source.ListenAddrs()[0], destination: destination.ListenAddrs()[0]}
	w.server = startServer(t, append([]string{"--destination", w.destination}, flags...)...)
	w.klink = w.server.proxy.Addr().String()
	w.must("", "context", "create", "src", "--bootstrap-server", w.source)
	w.must("", "context", "create", "dst", "--bootstrap-server", w.klink)
	w.must("", "context", "create", "direct", "--bootstrap-server", w.destination)
	w.must("", "context", "use", "dst")
	w.file("source.config", "bootstrap.servers="+w.source+"\n")
	return w
}

// startServer runs what `klink serve` runs, on free ports, until the test ends.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := newServer(t, args...)
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("serve: %v", err)
	}
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return s
}

func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddFlags(flags)
	require.NoError(t, flags.Parse(append([]string{"--listen", "127.0.0.1:0", "--drain-timeout", "5s"}, args...)))
	cfg, err := config.Load(flags, nil)
	require.NoError(t, err)
	s, err := assemble(context.Background(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	require.NoError(t, err)
	return s
}

func (w *world) file(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// run executes a command as a user in dir would.
func (w *world) run(input string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return w.runContext(ctx, strings.NewReader(input), args...)
}

func (w *world) runContext(ctx context.Context, in io.Reader, args ...string) (stdout, stderr string, code int) {
	for i, arg := range args {
		if strings.HasSuffix(arg, ".config") {
			args[i] = filepath.Join(w.dir, arg)
		}
	}
	var out, err bytes.Buffer
	a := &app{in: in, out: &out, err: &err, configDir: w.dir}
	code = a.run(ctx, args)
	return out.String(), err.String(), code
}

// must runs a command that must succeed, and returns what it printed.
func (w *world) must(input string, args ...string) string {
	w.t.Helper()
	stdout, stderr, code := w.run(input, args...)
	require.Equal(w.t, exitOK, code, "klink %s\n%s%s", strings.Join(args, " "), stdout, stderr)
	return stdout
}

// refused runs a command that must fail with exit code 1, and returns its error.
func (w *world) refused(input string, args ...string) string {
	w.t.Helper()
	stdout, stderr, code := w.run(input, args...)
	require.Equal(w.t, exitError, code, "klink %s\n%s%s", strings.Join(args, " "), stdout, stderr)
	return stderr
}

// mirror creates the topic at the source with the given lines, and a mirror of it over the link
// "east" that has caught up.
func (w *world) mirror(topic string, lines ...string) {
	w.t.Helper()
	w.must("", "topic", "create", topic, "--partitions", "1", "--cluster", "src")
	if !strings.Contains(w.must("", "link", "list"), "east") {
		w.must("", "link", "create", "east", "--config-file", "source.config")
	}
	w.must(strings.Join(lines, "\n"), "topic", "produce", topic, "--cluster", "src")
	w.must("", "topic", "create", topic, "--link", "east", "--mirror-topic", topic)
	w.must("", "topic", "consume", topic, "--from-beginning", "--max-messages", itoa(len(lines)))
	w.eventually(topic+" is ACTIVE without lag", func() bool {
		list := w.must("", "mirror", "list", "-o", "json")
		return strings.Contains(list, `"ACTIVE"`) && strings.Contains(list, `"max_lag": 0`)
	})
}

// alterConfig sets a config of a topic as a client of address would; the error is the topic's.
func alterConfig(t *testing.T, address, topic, name, value string) error {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	require.NoError(t, err)
	defer cl.Close()
	responses, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	require.NoError(t, err)
	return responses[0].Err
}

// taskRan waits until each task that a link's configs ask for has run once.
func (w *world) taskRan(link string) {
	w.t.Helper()
	w.eventually("the tasks of "+link+" have run", func() bool {
		var tasks []linkTaskJSON
		require.NoError(w.t, json.Unmarshal([]byte(w.must("", "link", "task", "list", link, "-o", "json")), &tasks))
		return !slices.ContainsFunc(tasks, func(t linkTaskJSON) bool { return t.State != "NOT_CONFIGURED" && t.LastSuccessTime == nil })
	})
}

// commit commits an offset of partition 0 for a group without members.
func (w *world) commit(address, group, topic string, at int64) {
	w.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	require.NoError(w.t, err)
	defer cl.Close()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, at, -1)
	require.NoError(w.t, kadm.NewClient(cl).CommitAllOffsets(w.t.Context(), group, offsets))
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func contains(text string, all ...string) bool {
	for _, s := range all {
		if !strings.Contains(text, s) {
			return false
		}
	}
	return true
}
