package e2e

import (
	"strings"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What the other tests take for granted: klink comes up, answers, says no by an exit code, ends in
// good order, crashes when told to, and comes back at the same address.
func TestHarness(t *testing.T) {
	t.Parallel()
	destination := kafkatest.Shared(t, "plain")
	k := StartKlink(t, destination)
	if out := k.MustCLI(t, "link", "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("links of a fresh klink: %q, want none", out)
	}
	if _, stderr, code := k.CLI(t, "link", "describe", "nobody"); code != 1 || !strings.Contains(stderr, "nobody") {
		t.Errorf("describing no link: exit code %d, %q", code, stderr)
	}
	if _, stderr, code := k.CLI(t, "link", "nonsense", "--no-such-flag"); code != 2 {
		t.Errorf("a usage error: exit code %d, %q", code, stderr)
	}
	if rss := k.RSS(t); rss < 1<<20 {
		t.Errorf("%d bytes resident", rss)
	}
	if code := k.Terminate(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	k.Restart()
	k.Kill()
	k.Restart()
	k.MustRun(t)
	if err := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
