package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// The demo shows what it promises, takes less than 20 s, and leaves nothing behind. (Its steps
// check themselves.)
func TestDemo(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1")) // gnet's, shared by all
	w := &world{t: t, dir: t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stdout, stderr, code := w.runContext(ctx, strings.NewReader(""), "demo")
	require.NoError(t, ctx.Err(), stdout)
	require.Equal(t, exitOK, code, stdout+stderr)
	require.Empty(t, stderr)
	rest := stdout
	for _, want := range []string{
		"$ klink serve --destination 127.0.0.1:", "$ klink context create dst --bootstrap-server 127.0.0.1:",
		"$ klink link create east-west --config-file source.config\nCreated cluster link \"east-west\".\n",
		"$ klink topic create orders --link east-west --mirror-topic orders\nCreated topic \"orders\".\n",
		"$ klink topic consume orders --from-beginning --print-offset --max-messages 3 --timeout 10s\nOffset:2\torder 3\nOffset:3\torder 4\nOffset:4\torder 5\n",
		"Error: Cannot append records to read-only mirror topic 'orders' (INVALID_REQUEST)\n",
		"$ klink topic mirror stop orders\nStopped mirroring for topic \"orders\".\n",
		"Offset:4\torder 5\nOffset:5\tmine\n",
	} {
		_, after, ok := strings.Cut(rest, want)
		require.True(t, ok, "%q is not (in its turn) in\n%s", want, stdout)
		rest = after
	}
	require.NotContains(t, stdout, "another terminal")
}

// With --keep it runs until ^C, and the commands that it prints work.
func TestDemoKeep(t *testing.T) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	out, shown := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"demo", "--keep"}, strings.NewReader(""), shown, io.Discard)
		shown.Close()
	}()
	var dir string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if d, ok := strings.CutPrefix(lines.Text(), "  export KLINK_CONFIG_DIR="); ok {
			dir = d
		}
		if strings.HasPrefix(lines.Text(), "destination, without klink:") {
			break
		}
	}
	require.NotEmpty(t, dir)
	w := &world{t: t, dir: dir}
	require.Contains(t, w.must("", "mirror", "list"), "STOPPED")
	interrupt()
	require.Equal(t, exitOK, <-code)
}
