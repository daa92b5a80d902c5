package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/kafkaclient"
)

// TestLinkFollowsAPassword: the password of a link changes at the source, and in a file of klink's
// machine. The mirror goes on, and nobody updates the link.
func TestLinkFollowsAPassword(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, "--allow-plaintext-secrets", "--link-file-directories", dir)
	source, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID("guarded-id"), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "reader", "FIRST"))
	require.NoError(t, err)
	t.Cleanup(source.Close)
	properties := kafkaclient.Properties{
		"bootstrap.servers": source.ListenAddrs()[0], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256",
	}
	text := func(login string) (text string) {
		for key, value := range properties.With("sasl.jaas.config", login) {
			text += key + "=" + value + "\n"
		}
		return text
	}
	login := func(password string) string {
		return `org.apache.kafka.common.security.scram.ScramLoginModule required username="reader" password="` + password + `";`
	}
	kept := filepath.Join(dir, "source.properties")
	store := func(password string) {
		require.NoError(t, os.WriteFile(kept+".new", []byte(text(login(password))), 0o600))
		require.NoError(t, os.Rename(kept+".new", kept))
	}
	store("FIRST")
	w.file("source.config", text("${file:"+kept+":sasl.jaas.config}"))
	w.must("", "context", "create", "src", "--command-config", "source.config")
	w.must("", "link", "create", "east", "--config-file", "source.config", "--keep-references")
	w.mirror("orders", "one")

	opts, err := properties.With("sasl.jaas.config", login("FIRST")).Options()
	require.NoError(t, err)
	admin, err := kgo.NewClient(opts...)
	require.NoError(t, err)
	defer admin.Close()
	altered, err := kadm.NewClient(admin).AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "reader", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "SECOND"}})
	require.NoError(t, err)
	require.NoError(t, altered.Error())
	store("SECOND")
	// The source hangs up on whoever logged in before.
	var logins, cut atomic.Int64
	source.ControlKey(int16(kmsg.SASLAuthenticate), func(kmsg.Request) (kmsg.Response, error, bool) {
		source.KeepControl()
		logins.Add(1)
		return nil, nil, false
	})
	source.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		source.KeepControl()
		if logins.Load() == 0 {
			cut.Add(1)
			return nil, errors.New("hang up"), true
		}
		return nil, nil, false
	})
	w.eventually("klink has logged in again", func() bool { return cut.Load() > 0 && logins.Load() > 0 })
	w.must("two\n", "topic", "produce", "orders", "--cluster", "src")
	require.Equal(t, "one\ntwo\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "2"))
	require.NotContains(t, w.must("", "link", "describe", "east", "-o", "json"), kept)

	// Without the file there is no login, and the reason tells nothing.
	require.NoError(t, os.Remove(kept))
	require.Contains(t, w.refused("", "link", "update", "east", "--config", "client.id=x"), "sasl.jaas.config: links cannot use this reference")
}
