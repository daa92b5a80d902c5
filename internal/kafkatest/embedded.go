package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded runs an in-process cluster of n brokers until the end of the test. It starts in
// milliseconds and knows transactions, groups and ACLs, but it is more lenient than a broker (it
// takes empty and even damaged batches), knows few topic configs, and panics on an API key it does
// not know. Options come last and win.
func Embedded(t testing.TB, n int, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	defaults := []kfake.Opt{
		kfake.NumBrokers(n),
		kfake.DefaultNumPartitions(1),
		kfake.ClusterID("embedded-" + t.Name()),
	}
	c, err := kfake.NewCluster(append(defaults, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
