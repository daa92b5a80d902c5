package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/config"
	"klink/internal/kafkaclient"
)

// TestPlaintextWarnings: serve says where clients' passwords cross a network unencrypted.
func TestPlaintextWarnings(t *testing.T) {
	const clients, upstream = "clients send their passwords to klink unencrypted", "passwords of clients, and its own, to the destination unencrypted"
	for _, c := range []struct {
		listen, cert, protocol, seeds string
		want                          []string
	}{
		{"0.0.0.0:1", "", "SASL_SSL", "b:1", []string{clients}},
		{"10.0.0.1:1", "", "sasl_ssl", "127.0.0.1:1", []string{clients}},
		{":1", "", "SASL_PLAINTEXT", "127.0.0.1:1,b:2", []string{clients, upstream}},
		{"klink.example:1", "cert.pem", "SASL_PLAINTEXT", "10.0.0.2:1", []string{upstream}},
		{"127.0.0.1:1", "", "SASL_PLAINTEXT", "10.0.0.2:1", []string{upstream}},
		{"[::1]:1", "", "SASL_PLAINTEXT", "localhost:1,[::1]:2", nil},
		{"0.0.0.0:1", "cert.pem", "SASL_SSL", "b:1", nil},
		{"0.0.0.0:1", "", "PLAINTEXT", "b:1", nil}, // no passwords
		{"0.0.0.0:1", "", "SSL", "b:1", nil},
	} {
		got := plaintextWarnings(&config.Serve{Listeners: []config.Listener{{Listen: c.listen, TLSCertFile: c.cert}}}, kafkaclient.Properties{"security.protocol": c.protocol, "bootstrap.servers": c.seeds})
		require.Len(t, got, len(c.want), "%v: %v", c, got)
		for i := range got {
			require.Contains(t, got[i], c.want[i])
		}
	}
	got := plaintextWarnings(&config.Serve{Listeners: []config.Listener{
		{Listen: "0.0.0.0:1", TLSCertFile: "cert.pem"}, {Listen: "0.0.0.0:2"}, {Listen: "127.0.0.1:3"},
	}}, kafkaclient.Properties{"security.protocol": "SASL_SSL"})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "--listen 0.0.0.0:2")
}

// farConn is a connection that claims to lead to another machine. It records when what was written.
type farConn struct {
	net.Conn
	wrote func([]byte)
}

func (c farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 19092} }

func (c farConn) Write(b []byte) (int, error) {
	c.wrote(b)
	return c.Conn.Write(b)
}

// TestSecretsWatch: the command line warns once before it sends a secret unencrypted over a
// network. The warning does not contain the secret.
func TestSecretsWatch(t *testing.T) {
	w := newWorld(t)
	a := &app{in: strings.NewReader(""), configDir: w.dir, bootstrap: w.klink}
	secrets := map[string]string{"bootstrap.servers": "x:1", "sasl.jaas.config": "S3CRET", "later.config": "S3CRET"}
	opts, err := a.watchSecrets(map[string]string{"bootstrap.servers": "x:1", "acl.filters.json": "{}"})
	require.NoError(t, err)
	require.Empty(t, opts, "no secret")
	a.commandConfig = w.file("tls.properties", "security.protocol=SASL_SSL\n")
	opts, err = a.watchSecrets(secrets)
	require.NoError(t, err)
	require.Empty(t, opts, "encrypted")
	a.commandConfig = ""

	for _, far := range []bool{true, false} {
		var mu sync.Mutex
		var warned bytes.Buffer
		first := ""
		a.err = writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return warned.Write(b)
		})
		opts, err := a.watchSecrets(secrets)
		require.NoError(t, err)
		dial := func(ctx context.Context, network, host string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
			if err != nil || !far {
				return conn, err
			}
			return farConn{conn, func(b []byte) {
				mu.Lock()
				defer mu.Unlock()
				if first == "" && bytes.Contains(b, []byte("a-request")) {
					first = "warned: " + warned.String()
				}
			}}, nil
		}
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.klink), kgo.Dialer(dial))...)
		require.NoError(t, err)
		defer cl.Close()
		for range 3 {
			req := kmsg.NewPtrMetadataRequest()
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = kmsg.StringPtr("a-request")
			req.Topics = append(req.Topics, topic)
			_, err = cl.Request(t.Context(), req)
			require.NoError(t, err)
		}
		mu.Lock()
		text, before := warned.String(), first
		mu.Unlock()
		if !far {
			require.Empty(t, text)
		} else {
			require.Equal(t, "warned: "+text, before, "before a request is sent")
			require.Equal(t, 1, strings.Count(text, "Warning:"))
			require.Contains(t, text, "later.config, sasl.jaas.config is sent to klink at 192.0.2.7:19092 unencrypted")
			require.NotContains(t, text, "S3CRET")
		}
	}
	(&secretsWatch{out: io.Discard}).OnBrokerConnect(kgo.BrokerMetadata{}, time.Second, nil, errors.New("refused"))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestSecretsFromElsewhere: secrets need not be on the command line.
func TestSecretsFromElsewhere(t *testing.T) {
	w := newWorld(t, "--allow-plaintext-secrets")
	t.Setenv("KLINK_TEST_PASSWORD", "from-env")
	w.file("passwords.properties", "db=x\nsource = from-file\n")
	w.file("token", "from-dir\n")
	w.file("a:b", "from-colon")
	for value, want := range map[string]string{
		"${env:KLINK_TEST_PASSWORD}":                              "from-env",
		"${file:" + w.dir + "/passwords.properties:source}":       "from-file",
		"${dir:" + w.dir + ":token}":                              "from-dir",
		`u="${env:KLINK_TEST_PASSWORD}" p="${env:NONE_}"`:         "!environment variable NONE_",
		"x ${env:KLINK_TEST_PASSWORD} ${dir:" + w.dir + ":token}": "x from-env from-dir",
		"${other:x} $5 ${}":                                       "${other:x} $5 ${}", // not ours
		"${file:" + w.dir + "/passwords.properties:none}":         "!has no key none",
		"${file:passwords}":                                       "!want ${file:PATH:NAME}",
		"${dir:" + w.dir + ":../token}":                           "!is not the name of a file in a directory",
		"${dir:/dev:zero}":                                        "!larger than",
	} {
		got, err := kafkaclient.Properties{}.ResolveValue(value)
		if refusal, ok := strings.CutPrefix(want, "!"); ok {
			require.ErrorContains(t, err, refusal)
			require.NotContains(t, err.Error(), "from-")
			continue
		}
		require.NoError(t, err, value)
		require.Equal(t, want, got)
	}
	t.Setenv("KLINK_TEST_TWICE", "${env:KLINK_TEST_PASSWORD}")
	got, err := kafkaclient.Properties{}.ResolveValue("${env:KLINK_TEST_TWICE}")
	require.NoError(t, err)
	require.Equal(t, "${env:KLINK_TEST_PASSWORD}", got, "what was put in is not looked at again")

	// As a user would do it.
	t.Setenv("KLINK_TEST_SERVERS", w.source)
	w.file("from.config", "client.id=${env:KLINK_TEST_PASSWORD}\n")
	w.must("", "link", "create", "east", "--config-file", "from.config", "--config", "bootstrap.servers=${env:KLINK_TEST_SERVERS}",
		"--config", `sasl.jaas.config=M required username="u" password="${dir:`+w.dir+`:token}";`)
	l := w.server.service.State().Links["east"]
	require.Equal(t, "from-env", l.Configs["client.id"])
	require.Equal(t, `M required username="u" password="from-dir";`, l.Configs["sasl.jaas.config"])
	w.must("", "link", "update", "east", "--config", "client.id=${dir:"+w.dir+":token}")
	require.Equal(t, "from-dir", w.server.service.State().Links["east"].Configs["client.id"])
	require.Contains(t, w.refused("", "link", "update", "east", "--config", "client.id=${env:NONE_}"), "Error: --config: client.id: ${env:NONE_}: environment variable NONE_")
	w.must("", "context", "create", "e", "--config", "bootstrap.servers=${env:KLINK_TEST_SERVERS}")
	require.Contains(t, w.must("", "context", "list"), w.source)
}

// TestLinkAdminSetting: the effect of --link-admin on commands.
func TestLinkAdminSetting(t *testing.T) {
	w := newWorld(t, "--link-admin", "read")
	w.must("", "link", "list")
	require.Contains(t, w.refused("", "link", "create", "x", "--config-file", "source.config"), "this klink was started with --link-admin read")
	require.Contains(t, w.refused("", "topic", "create", "m", "--config", "mirror.link=x"), "this klink was started with --link-admin read")
	off := newWorld(t, "--link-admin", "off")
	require.Contains(t, off.refused("", "link", "list"), "that does not run with --link-admin off")
	require.Contains(t, off.refused("", "topic", "create", "m", "--config", "mirror.link=x"), "this klink was started with --link-admin off")
	off.must("", "topic", "create", "plain")
	require.Empty(t, off.server.service.State().Links)
}
