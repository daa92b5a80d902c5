package admin

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const linkPassword = "the-links-password"

// catcher is an attacker's broker: it records the credentials with which clients log in.
type catcher struct {
	*kfake.Cluster
	mu     sync.Mutex
	caught []byte
	logins int
}

func startCatcher(t testing.TB, opts ...kfake.Opt) *catcher {
	c := &catcher{Cluster: kafkatest.Embedded(t, 1, append([]kfake.Opt{kfake.ClusterID("source"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", linkPassword)}, opts...)...)}
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.KeepControl()
		c.logins++
		c.caught = append(c.caught, req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes...)
		return nil, nil, false
	})
	return c
}

func (c *catcher) seen() (logins int, caught string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logins, string(c.caught)
}

func jaas(password string) string {
	return `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="` + password + `";`
}

func setConfig(name, value string) linkapi.AlterConfig {
	return linkapi.AlterConfig{Name: name, Op: linkapi.ConfigSet, Value: &value}
}

func dropConfig(name string) linkapi.AlterConfig {
	return linkapi.AlterConfig{Name: name, Op: linkapi.ConfigDelete}
}

func alterLinkAt(s *Service, validateOnly bool, link string, changes ...linkapi.AlterConfig) linkapi.NameResult {
	req := &linkapi.AlterLinkConfigsRequest{ValidateOnly: validateOnly, Links: []linkapi.AlterLink{{Name: link, Configs: changes}}}
	return s.HandleLink(context.Background(), req).(*linkapi.AlterLinkConfigsResponse).Results[0]
}

// TestAlteringDoesNotGiveSecretsAway: a client that may alter a link, but does not know its
// password, cannot have it sent elsewhere, neither by altering the link nor by validating a change.
func TestAlteringDoesNotGiveSecretsAway(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Secrets = testKey(t, 1) })
	source := startCatcher(t)
	created := w.link("l", linkconfig.ConfigBootstrapServers+"="+source.ListenAddrs()[0], "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.jaas.config="+jaas(linkPassword))
	require.Zero(t, created.ErrorCode, text(created.ErrorMessage))
	_, own := source.seen()
	require.Contains(t, own, linkPassword, "the source itself sees it")

	attacker := startCatcher(t)
	there := setConfig(linkconfig.ConfigBootstrapServers, attacker.ListenAddrs()[0])
	before := w.service.State().Links["l"].Configs
	for _, changes := range [][]linkapi.AlterConfig{
		{there},
		{there, setConfig("client.id", "x")},
		{there, setConfig("ssl.keystore.key", "")}, // gives a secret, but not the one that is sent
		{there, setConfig("security.protocol", "PLAINTEXT")},
		{setConfig(linkconfig.ConfigBootstrapServers, source.ListenAddrs()[0]+","+attacker.ListenAddrs()[0])},
		{setConfig(linkconfig.ConfigBootstrapServers, attacker.ListenAddrs()[0]+","+source.ListenAddrs()[0])},
		{dropConfig("security.protocol")},
		{setConfig("sasl.mechanism", "SCRAM-SHA-256")},
		{setConfig("security.protocol", "SASL_SSL"), setConfig("ssl.endpoint.identification.algorithm", "")},
		{setConfig("ssl.truststore.certificates", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")},
		{setConfig("ssl.truststore.location", "/x")},
		{setConfig("ssl.ca.location", "/x")},
	} {
		for _, validateOnly := range []bool{true, false} {
			r := alterLinkAt(w.service, validateOnly, "l", changes...)
			require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode, "%v: %s", changes, text(r.ErrorMessage))
			require.Contains(t, text(r.ErrorMessage), "sasl.jaas.config", "the error names the secret")
			require.Contains(t, text(r.ErrorMessage), "same request")
			require.NotContains(t, text(r.ErrorMessage), linkPassword)
		}
	}
	require.Equal(t, before, w.service.State().Links["l"].Configs, "nothing was changed")

	// A link of the same name that is made anew has no secrets of its predecessor.
	deleted := w.service.HandleLink(context.Background(), &linkapi.DeleteLinksRequest{Names: []string{"l"}}).(*linkapi.DeleteLinksResponse).Results[0]
	require.Zero(t, deleted.ErrorCode, text(deleted.ErrorMessage))
	again := w.link("l", linkconfig.ConfigBootstrapServers+"="+attacker.ListenAddrs()[0], "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN")
	require.Equal(t, kerr.InvalidConfig.Code, again.ErrorCode)
	require.Contains(t, text(again.ErrorMessage), "sasl.jaas.config")

	logins, caught := attacker.seen()
	require.NotContains(t, caught, linkPassword)
	require.Zero(t, logins)
}

// TestAlteringWithTheSecrets: a client that gives the secrets may change how they are used. A
// client that changes something else need not give them.
func TestAlteringWithTheSecrets(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Secrets = testKey(t, 1) })
	source, moved := startCatcher(t), startCatcher(t)
	created := w.link("l", linkconfig.ConfigBootstrapServers+"="+source.ListenAddrs()[0], "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.jaas.config="+jaas(linkPassword))
	require.Zero(t, created.ErrorCode, text(created.ErrorMessage))
	for _, changes := range [][]linkapi.AlterConfig{
		{setConfig(linkconfig.ConfigMetadataMaxAge, "500"), setConfig("client.id", "x"), setConfig(linkconfig.ConfigLinkPaused, "true")},
		{setConfig(linkconfig.ConfigBootstrapServers, source.ListenAddrs()[0])},     // no change
		{setConfig("ssl.endpoint.identification.algorithm", "https")},               // the default
		{setConfig("security.protocol", "SASL_PLAINTEXT"), dropConfig("client.id")}, // the same
		{setConfig(linkconfig.ConfigBootstrapServers, moved.ListenAddrs()[0]), setConfig("sasl.jaas.config", jaas(linkPassword))},
		// Without secrets there is nothing to give away.
		{setConfig(linkconfig.ConfigLinkPaused, "false"), setConfig(linkconfig.ConfigBootstrapServers, w.source.ListenAddrs()[0]), setConfig("security.protocol", "PLAINTEXT"), dropConfig("sasl.jaas.config")},
	} {
		r := alterLinkAt(w.service, false, "l", changes...)
		require.Zero(t, r.ErrorCode, "%v: %s", changes, text(r.ErrorMessage))
	}
	_, caught := moved.seen()
	require.Contains(t, caught, linkPassword)
	require.NotContains(t, w.service.State().Links["l"].Configs, "sasl.jaas.config")
	r := alterLinkAt(w.service, false, "l", setConfig(linkconfig.ConfigBootstrapServers, w.source.ListenAddrs()[0]))
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
}

// TestReferencesGiveNothingAway: a client that may create and alter links, but may not read klink's
// machine, cannot have a secret of it sent to a server of its own. The link itself goes on with a
// secret that changes.
func TestReferencesGiveNothingAway(t *testing.T) {
	dir := t.TempDir()
	files, err := kafkaclient.LinkFiles([]string{dir})
	require.NoError(t, err)
	w := newWorld(t, func(c *Config) { c.Secrets, c.LinkFiles = testKey(t, 1), files })
	source, attacker := startCatcher(t), startCatcher(t)
	path := filepath.Join(dir, "source.properties")
	meant := func(server, password string) {
		require.NoError(t, os.WriteFile(path, []byte("bootstrap.servers="+server+"\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\npassword="+password+"\n"), 0o600))
	}
	meant(source.ListenAddrs()[0], linkPassword)
	reference := jaas("${file:" + path + ":password}")
	create := func(server string) linkapi.CreateLinkResult {
		return w.link("l", linkconfig.ConfigBootstrapServers+"="+server, "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.jaas.config="+reference)
	}
	refused := create(attacker.ListenAddrs()[0])
	require.Equal(t, kerr.InvalidConfig.Code, refused.ErrorCode)
	created := create(source.ListenAddrs()[0])
	require.Zero(t, created.ErrorCode, text(created.ErrorMessage))
	_, own := source.seen()
	require.Contains(t, own, linkPassword, "the source itself sees it")
	l := w.service.State().Links["l"]
	require.Equal(t, reference, l.Configs["sasl.jaas.config"], "stored as it is")
	require.NotContains(t, text(w.service.describeLink(l).Configs[3].Value), path)

	there := setConfig(linkconfig.ConfigBootstrapServers, attacker.ListenAddrs()[0])
	for _, changes := range [][]linkapi.AlterConfig{
		{there},
		{there, setConfig("sasl.jaas.config", reference)}, // who knows the reference does not know the secret
		{setConfig(linkconfig.ConfigBootstrapServers, source.ListenAddrs()[0]+","+attacker.ListenAddrs()[0]), setConfig("sasl.jaas.config", reference)},
		{setConfig("client.id", "${file:"+path+":password}")},
		{setConfig("client.id", "${env:HOME}")},
		{setConfig("sasl.jaas.config", jaas("${env:HOME}"))},
	} {
		for _, validateOnly := range []bool{true, false} {
			r := alterLinkAt(w.service, validateOnly, "l", changes...)
			require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode, "%v: %s", changes, text(r.ErrorMessage))
			require.NotContains(t, text(r.ErrorMessage), linkPassword)
		}
	}
	logins, caught := attacker.seen()
	require.Zero(t, logins)
	require.Empty(t, caught)

	// The next login is with the secret that the file has then.
	meant(source.ListenAddrs()[0], "another")
	_, failed := sources.Connect(t.Context(), files, "l", l.Configs)
	require.NotNil(t, failed)
	_, own = source.seen()
	require.Contains(t, own, "another")
	// And with none, once whoever owns the file says that it is for somebody else.
	meant(attacker.ListenAddrs()[0], linkPassword)
	_, failed = sources.Connect(t.Context(), files, "l", l.Configs)
	require.NotNil(t, failed)
	require.NotContains(t, failed.Message, linkPassword)
}

// TestPropertiesWithoutEffectAreNotKept: a link takes a client's properties, and keeps those that
// make a difference.
func TestPropertiesWithoutEffectAreNotKept(t *testing.T) {
	w := newWorld(t)
	created := w.link("l", "acks=all", "schema.registry.basic.auth.user.info=u:hush", "session.timeout.ms=45000", "ssl.protocol=TLS")
	require.Zero(t, created.ErrorCode, text(created.ErrorMessage))
	changed := alterLinkAt(w.service, false, "l", setConfig("linger.ms", "5"), setConfig(linkconfig.ConfigMetadataMaxAge, "5000"), dropConfig("acks"))
	require.Zero(t, changed.ErrorCode, text(changed.ErrorMessage))
	l := w.service.State().Links["l"]
	for _, c := range w.service.describeLink(l).Configs {
		require.NotContains(t, []string{"acks", "schema.registry.basic.auth.user.info", "session.timeout.ms", "ssl.protocol", "linger.ms"}, c.Name)
	}
	require.Equal(t, "5000", l.Configs[linkconfig.ConfigMetadataMaxAge])
	require.NotContains(t, l.Configs, "linger.ms")
	for _, wrong := range []linkapi.AlterConfig{setConfig("lingerms", "5"), setConfig("security.providers", "x"), setConfig("ssl.protocol", "SSLv3")} {
		require.Equal(t, kerr.InvalidConfig.Code, alterLinkAt(w.service, false, "l", wrong).ErrorCode, wrong.Name)
	}
}

// TestEveryConfigSaysItsCustody: every row of the table says whether its config decides who gets
// the secrets. A config that affects how klink reaches the source is not unconcerned, unless this
// test names it with the reason.
func TestEveryConfigSaysItsCustody(t *testing.T) {
	unconcernedThough := map[string]string{
		"ssl.keystore.type":              "the format of ssl.keystore.location",
		"ssl.keystore.location":          "who klink says it is, not to whom; a certificate gives its private key to nobody",
		"ssl.keystore.certificate.chain": "as ssl.keystore.location",
		"client.id":                      "a name for logs and quotas",

		"sasl.login.callback.handler.class":             "its only values mean the same",
		"sasl.client.callback.handler.class":            "its only value means the same",
		"sasl.oauthbearer.client.credentials.client.id": "who klink says it is at the token endpoint",
		"sasl.oauthbearer.scope":                        "what klink asks the same endpoint for",
		"sasl.oauthbearer.header.urlencode":             "the form of the request to the same endpoint",
		"sasl.oauthbearer.jwt.retriever.class":          "its values mean what the token endpoint's URL says",
		"sasl.login.connect.timeout.ms":                 "a time",
		"sasl.login.read.timeout.ms":                    "a time",
		"sasl.login.retry.backoff.ms":                   "a time",
		"sasl.login.retry.backoff.max.ms":               "a time",
		"sasl.login.refresh.window.factor":              "a time",
		"sasl.login.refresh.window.jitter":              "a time",
		"sasl.login.refresh.min.period.seconds":         "a time",
		"sasl.login.refresh.buffer.seconds":             "a time",
	}
	deciding := 0
	for _, c := range linkconfig.Configs() {
		require.NotZero(t, c.Custody, "%s: does it decide to whom the secrets of a link are sent, and how?", c.Name)
		require.Equal(t, c.Sensitive, c.Custody == linkconfig.Secret, c.Name)
		if c.Connection && c.Custody == linkconfig.Unconcerned {
			require.Contains(t, unconcernedThough, c.Name, "it decides how the source is reached")
			delete(unconcernedThough, c.Name)
		}
		if c.Custody == linkconfig.Decides {
			deciding++
			require.True(t, c.Connection, "%s: a change has to be tried out", c.Name)
		}
	}
	require.Empty(t, unconcernedThough)
	require.Equal(t, 11, deciding)
}

// TestCustodyOfEveryDecidingConfig walks the table. If a link holds any secret, even one that this
// version does not know or cannot open, a change of any deciding config without that secret is
// refused.
func TestCustodyOfEveryDecidingConfig(t *testing.T) {
	for _, held := range []string{"sasl.jaas.config", "ssl.keystore.key", "ssl.truststore.password", "ssl.keystore.password", "ssl.key.password", "sasl.oauthbearer.client.credentials.client.secret", "sasl.token.of.a.later.version"} {
		for _, opened := range []bool{true, false} {
			l := &model.Link{Name: "l", Configs: map[string]string{linkconfig.ConfigBootstrapServers: "a:1"}, Sealed: map[string]bool{held: true}}
			if opened {
				l.Configs[held] = "hush"
			}
			for _, c := range linkconfig.Configs() {
				set := map[string]string{c.Name: "other"}
				next := maps.Clone(l.Configs)
				maps.Copy(next, set)
				err := linkconfig.CheckCustody(l, next, set, nil)
				if c.Custody != linkconfig.Decides {
					require.Nil(t, err, c.Name)
					continue
				}
				require.NotNil(t, err, "%s with %s", c.Name, held)
				require.Contains(t, err.Message, held)
				require.NotContains(t, err.Message, "hush")
				require.Nil(t, linkconfig.CheckCustody(l, next, map[string]string{c.Name: "other", held: "hush"}, nil))
				require.Nil(t, linkconfig.CheckCustody(l, without(next, held), set, map[string]bool{held: true}))
			}
		}
	}
}

// TestConfigsOfALaterVersionAreHidden: a config that this version does not know may be a secret.
func TestConfigsOfALaterVersionAreHidden(t *testing.T) {
	key := testKey(t, 1)
	record := &store.LinkRecord{
		ID: "id", State: model.LinkActive,
		Configs: map[string]string{linkconfig.ConfigBootstrapServers: "a:1", "sasl.oauthbearer.client.secret": "hush-plain", "a.later.switch": "hush-switch"},
		Secrets: map[string]store.Sealed{
			"sasl.later.password":            key.Seal("l", "sasl.later.password", "hush-sealed"),
			"ssl.keystore.certificate.chain": key.Seal("l", "ssl.keystore.certificate.chain", "hush-chain"), // no secret yet in this version
		},
	}
	s := &Service{}
	d := s.describeLink(record.View("l", key))
	seen := map[string]bool{}
	for _, c := range d.Configs {
		require.NotContains(t, text(c.Value), "hush", c.Name)
		if text(c.Value) == linkconfig.Hidden {
			require.True(t, c.Sensitive, c.Name)
			seen[c.Name] = true
		}
	}
	require.Equal(t, map[string]bool{
		"sasl.oauthbearer.client.secret": true, "a.later.switch": true, "sasl.later.password": true, "ssl.keystore.certificate.chain": true,
	}, seen)

	// This version does not store unencrypted what a later version has sealed.
	s.cfg.Secrets = key
	require.Nil(t, s.setConfigs(record, "l", map[string]string{"ssl.keystore.certificate.chain": "hush-new"}))
	require.NotContains(t, record.Configs, "ssl.keystore.certificate.chain")
	opened, err := key.Open("l", "ssl.keystore.certificate.chain", record.Secrets["ssl.keystore.certificate.chain"])
	require.NoError(t, err)
	require.Equal(t, "hush-new", opened)
}
