package kafkatest

import (
	"strings"
	"testing"
)

// TestListenerOptions: listeners that cannot be are refused before anything starts.
func TestListenerOptions(t *testing.T) {
	for problem, opts := range map[string][]Option{
		"one broker only":                      {Brokers(3), Listener("A", "PLAINTEXT", "127.0.0.1:1")},
		`protocol "SASL_SSL" is neither`:       {Listener("A", "SASL_SSL", "")},
		`listener "CLIENT": the name is taken`: {Listener("CLIENT", "PLAINTEXT", "")},
		`listener "a": the name is taken`:      {Listener("a", "PLAINTEXT", "")},
		"listener A is added twice":            {Listener("A", "SSL", ""), Listener("A", "PLAINTEXT", "")},
	} {
		if _, err := newOptions(opts); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("want %q, got %v", problem, err)
		}
	}
	o, err := newOptions([]Option{Listener("A", "PLAINTEXT", "127.0.0.1:1"), Listener("B", "SSL", "")})
	if err != nil || !o.certified() || o.tls() {
		t.Errorf("%v; certificates %v, client listener with TLS %v", err, o.certified(), o.tls())
	}
}
