package kafkatest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// A cluster takes seconds to start, so the tests of a package share clusters by name, and tell
// themselves apart by the names of their topics.
var shared struct {
	mu       sync.Mutex
	clusters map[string]*sharedCluster
}

type sharedCluster struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Shared returns the cluster of this name. The first call in a test binary starts it, with that
// call's options; later options are ignored. [Main] stops it.
func Shared(t testing.TB, name string, opts ...Option) *Cluster {
	t.Helper()
	return sharedFor(t, V431, name, opts)
}

// SharedOld is [Shared] for a cluster of [StartOld].
func SharedOld(t testing.TB, name string, opts ...Option) *Cluster {
	t.Helper()
	return sharedFor(t, V241, name, opts)
}

func sharedFor(t testing.TB, v Version, name string, opts []Option) *Cluster {
	t.Helper()
	Require(t)
	shared.mu.Lock()
	if shared.clusters == nil {
		shared.clusters = map[string]*sharedCluster{}
	}
	s := shared.clusters[name]
	if s == nil {
		s = &sharedCluster{}
		shared.clusters[name] = s
	}
	shared.mu.Unlock()

	s.once.Do(func() { s.cluster, s.err = start(v, opts...) })
	if s.err != nil {
		t.Fatalf("shared cluster %q: %v", name, s.err)
	}
	if s.cluster.version != v {
		t.Fatalf("shared cluster %q runs Kafka %s, not %s", name, s.cluster.version, v)
	}
	s.cluster.showLogsOnFailure(t)
	return s.cluster
}

// Main runs the tests, stops the clusters that several tests use, and calls last: an error fails
// the run. A package that uses [Shared] has
//
//	func TestMain(m *testing.M) { kafkatest.Main(m) }
//
// Without it the clusters still end with the test binary, but their data stays until the next test
// binary cleans up, and [Start] starts every cluster anew.
func Main(m *testing.M, last ...func() error) {
	openPool()
	code := m.Run()
	stopShared()
	for _, f := range last {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// stopShared stops all clusters that outlive a test.
func stopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range shared.clusters {
		if s.cluster != nil {
			wg.Go(s.cluster.stop)
		}
	}
	for _, c := range closePool() {
		wg.Go(c.stop)
	}
	wg.Wait()
	shared.clusters = nil
}
