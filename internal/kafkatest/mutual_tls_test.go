package kafkatest

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The certificate is the principal: one user may read a topic, another may not, and nobody is
// served without a certificate.
func TestMutualTLS(t *testing.T) {
	c := Start(t, MutualTLS())
	super := c.Client(t)
	CreateTopic(t, super, "guarded", 1, 1, nil)
	Produce(t, super, "guarded", 0, Records(3, 10)...)
	acl := kadm.NewACLs().Allow("User:alice").AllowHosts("*").Topics("guarded").ResourcePatternType(kadm.ACLPatternLiteral).
		Operations(kadm.OpDescribe)
	if _, err := kadm.NewClient(super).CreateACLs(t.Context(), acl); err != nil {
		t.Fatal(err)
	}
	ends := func(opts ...kgo.Opt) error {
		ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
		defer cancel()
		cl := NewClient(t, append(opts, kgo.SeedBrokers(c.seeds()...), kgo.RetryTimeout(0), kgo.RequestRetries(0))...)
		offsets, err := kadm.NewClient(cl).ListEndOffsets(ctx, "guarded")
		if err == nil {
			err = offsets.Error()
		}
		return err
	}
	if err := ends(c.ClientOpts("alice", "")...); err != nil {
		t.Errorf("alice, who may: %v", err)
	}
	if err := ends(c.ClientOpts("mallory", "")...); err == nil || !strings.Contains(err.Error(), "AUTHORIZATION") {
		t.Errorf("mallory, who may not: %v", err)
	}
	if err := ends(kgo.DialTLSConfig(c.tls.clientConfig())); err == nil {
		t.Error("a client without a certificate was served")
	}
	out := MustTool(t, "", TopicCommand, "--bootstrap-server", c.Bootstrap(), "--list",
		"--command-config", c.PropertiesFile(t, SuperUser, ""))
	if !strings.Contains(out, "guarded") {
		t.Errorf("a Java client with its certificate: %q", out)
	}
}
