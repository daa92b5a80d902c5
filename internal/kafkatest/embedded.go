package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded runs an in-process cluster of n brokers until the end of the test. It starts in
// milliseconds and supports transactions, groups and ACLs. But it is more lenient than a broker (it
// accepts empty and even damaged batches), knows few topic configs, and panics on an API key that
// it does not know. The given options come last and override the others.
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
