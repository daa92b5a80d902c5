package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestContextCheck: --check tries each broker where it advertises to be, of Kafka and of klink, and
// stores no context with which clients would fail.
func TestContextCheck(t *testing.T) {
	w := newWorld(t)
	require.Regexp(t, `(?m)^broker \d+ at 127\.0\.0\.1:\d+: it answers\nCreated context "checked"\.\n$`,
		w.must("", "context", "create", "checked", "--check", "--bootstrap-server", w.klink))

	half, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(half.Close)
	half.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		half.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = 7, "not..a.name", 9092
		resp.Brokers = append(resp.Brokers, b)
		return resp, nil, true
	})
	stdout, stderr, code := w.run("", "context", "create", "half", "--check", "--bootstrap-server", half.ListenAddrs()[0])
	require.Equal(t, exitError, code)
	require.Equal(t, "broker 7 at not..a.name:9092: its name cannot be resolved\n", stdout)
	require.Contains(t, stderr, `context "half" is not stored: 1 of 1 brokers cannot be used`)
	require.Contains(t, stderr, "check advertised.listeners")
	require.NotContains(t, w.must("", "context", "list"), "half")
}
