package admin

import (
	"context"
	"maps"
	"net"
	"strings"
	"testing"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestCreateLinkRefusals(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("there").ErrorCode)
	secured := kafkatest.Embedded(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	sasl := []string{
		linkconfig.ConfigBootstrapServers + "=" + secured.ListenAddrs()[0], "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN",
		`sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="wrong";`,
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := closed.Addr().String()
	require.NoError(t, closed.Close())

	for _, c := range []struct {
		name    string
		configs []string
		code    *kerr.Error
		text    []string
	}{
		{"bad/name", nil, kerr.InvalidRequest, []string{"bad/name"}},
		{"", nil, kerr.InvalidRequest, []string{"empty"}},
		{"there", nil, kerr.DuplicateResource, []string{`"there"`, "exists"}},
		{"l", []string{"bootstrap.server=x"}, kerr.InvalidConfig, []string{"bootstrap.server", "did you mean bootstrap.servers?"}},
		{"l", []string{"consumer.offset.sync.ms=99"}, kerr.InvalidConfig, []string{"consumer.offset.sync.ms", `"99"`, "100 to 3600000"}},
		{"l", []string{`consumer.offset.group.filters={"groupFilters":[{"name":"a","patternType":"GLOB","filterType":"INCLUDE"}]}`}, kerr.InvalidConfig, []string{"consumer.offset.group.filters", "line 1, column 44", "GLOB"}},
		{"l", []string{"retry.backoff.ms=soon"}, kerr.InvalidConfig, []string{"retry.backoff.ms", `"soon"`, "whole number"}},
		{"l", []string{"bootstrap.servers=" + nobody}, kerr.BrokerNotAvailable, []string{string(model.ErrBootstrapConnection), nobody}},
		{"l", []string{"bootstrap.servers=" + w.destination.ListenAddrs()[0]}, kerr.InvalidRequest, []string{"this cluster itself"}},
		{"l", sasl, kerr.InvalidConfig, []string{"sasl.jaas.config", "--secrets-key-file", "--allow-plaintext-secrets"}},
	} {
		r := w.link(c.name, c.configs...)
		require.Equal(t, c.code.Code, r.ErrorCode, "%s %v: %s", c.name, c.configs, text(r.ErrorMessage))
		for _, part := range c.text {
			require.Contains(t, text(r.ErrorMessage), part)
		}
		require.Len(t, w.service.State().Links, 1)
	}

	withKey := w.start(func(c *Config) { c.Secrets = testKey(t, 1) })
	r := withKey.HandleLink(context.Background(), &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{{Name: "l", Configs: w.configs(sasl...)}}}).(*linkapi.CreateLinksResponse).Results[0]
	require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode, text(r.ErrorMessage))
	require.Contains(t, text(r.ErrorMessage), string(model.ErrAuthentication))
	require.NotContains(t, text(r.ErrorMessage), "wrong", "no secret in an error")
}

func TestLinkLifecycle(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Secrets = testKey(t, 1) })
	ctx := context.Background()
	secret := `sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hush";`
	created := w.link("l", "client.id= me ", "acl.sync.enable=false", secret)
	require.Zero(t, created.ErrorCode, text(created.ErrorMessage))
	require.Equal(t, "source", created.SourceClusterID)
	require.Len(t, created.ID, 36)

	dry := &linkapi.CreateLinksRequest{ValidateOnly: true, Links: []linkapi.CreateLink{{Name: "dry", Configs: w.configs()}}}
	require.Zero(t, w.service.HandleLink(ctx, dry).(*linkapi.CreateLinksResponse).Results[0].ErrorCode)
	require.Nil(t, w.service.State().Links["dry"])

	describe := func(s *Service) (linkapi.DescribedLink, map[string]linkapi.DescribedConfig) {
		d := s.HandleLink(ctx, &linkapi.DescribeLinksRequest{Names: []string{"l", "none"}}).(*linkapi.DescribeLinksResponse)
		require.Equal(t, kerr.ResourceNotFound.Code, d.Links[1].ErrorCode)
		configs := map[string]linkapi.DescribedConfig{}
		for _, c := range d.Links[0].Configs {
			configs[c.Name] = c
		}
		return d.Links[0], configs
	}
	d, configs := describe(w.service)
	require.Equal(t, "ACTIVE", d.State)
	require.Equal(t, "destination", d.DestinationClusterID)
	require.Equal(t, linkconfig.Hidden, text(configs["sasl.jaas.config"].Value))
	require.True(t, configs["sasl.jaas.config"].Sensitive)
	require.Equal(t, "me", text(configs["client.id"].Value))
	require.False(t, configs["client.id"].IsDefault)
	require.Equal(t, "10000", text(configs[linkconfig.ConfigMetadataMaxAge].Value))
	require.True(t, configs[linkconfig.ConfigMetadataMaxAge].IsDefault)

	alter := func(changes ...linkapi.AlterConfig) linkapi.NameResult {
		req := &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{{Name: "l", Configs: changes}}}
		return w.service.HandleLink(ctx, req).(*linkapi.AlterLinkConfigsResponse).Results[0]
	}
	set := func(name, value string) linkapi.AlterConfig {
		return linkapi.AlterConfig{Name: name, Op: linkapi.ConfigSet, Value: &value}
	}
	r := alter(set("client.id", "you"), set("retry.backoff.ms", "-1"))
	require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "retry.backoff.ms")
	_, configs = describe(w.service)
	require.Equal(t, "me", text(configs["client.id"].Value), "all or nothing")

	require.Zero(t, alter(set(linkconfig.ConfigMetadataMaxAge, "500"), linkapi.AlterConfig{Name: "client.id", Op: linkapi.ConfigDelete}).ErrorCode)
	_, configs = describe(w.service)
	require.Equal(t, "500", text(configs[linkconfig.ConfigMetadataMaxAge].Value))
	require.True(t, configs["client.id"].IsDefault)

	other := kafkatest.Embedded(t, 1, kfake.ClusterID("other"))
	_, value, _ := strings.Cut(secret, "=")
	r = alter(set(linkconfig.ConfigBootstrapServers, other.ListenAddrs()[0]), set("sasl.jaas.config", value))
	require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "the source of a link cannot be changed")

	require.Zero(t, alter(set(linkconfig.ConfigLinkPaused, "true")).ErrorCode)
	d, _ = describe(w.service)
	require.Equal(t, "PAUSED", d.State)
	require.Zero(t, alter(set(linkconfig.ConfigLinkPaused, "false")).ErrorCode)

	// Start another process with the key, one with another key, and one without.
	require.Contains(t, w.start(func(c *Config) { c.Secrets = testKey(t, 1) }).State().Links["l"].Configs["sasl.jaas.config"], "hush")
	for _, key := range []*store.SecretsKey{testKey(t, 2), nil} {
		l := w.start(func(c *Config) { c.Secrets = key }).State().Links["l"]
		require.Equal(t, model.LinkFailed, l.State)
		require.Contains(t, l.ErrorMessage, "--secrets-key-file")
		require.NotContains(t, l.Configs, "sasl.jaas.config")
	}
	// To use a new key, give the links their secrets again.
	rekeyed := w.start(func(c *Config) { c.Secrets = testKey(t, 2) })
	given := rekeyed.HandleLink(ctx, &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{{Name: "l", Configs: []linkapi.AlterConfig{
		set("sasl.jaas.config", `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hush-hush";`),
	}}}}).(*linkapi.AlterLinkConfigsResponse).Results[0]
	require.Zero(t, given.ErrorCode, text(given.ErrorMessage))
	require.Equal(t, model.LinkActive, rekeyed.State().Links["l"].State)
	require.Equal(t, model.LinkFailed, w.start(func(c *Config) { c.Secrets = testKey(t, 1) }).State().Links["l"].State)
	require.Contains(t, w.start(func(c *Config) { c.Secrets = testKey(t, 2) }).State().Links["l"].Configs["sasl.jaas.config"], "hush-hush")
	for _, r := range kafkatest.ReadAll(t, store.StateTopic, kgo.SeedBrokers(w.destination.ListenAddrs()...)) {
		require.NotContains(t, string(r.Value), "hush")
	}

	list := w.service.HandleLink(ctx, &linkapi.ListLinksRequest{}).(*linkapi.ListLinksResponse)
	require.Len(t, list.Links, 1)
	require.Equal(t, "l", list.Links[0].Name)
	deleted := w.service.HandleLink(ctx, &linkapi.DeleteLinksRequest{Names: []string{"l", "none"}}).(*linkapi.DeleteLinksResponse)
	require.Zero(t, deleted.Results[0].ErrorCode)
	require.Equal(t, kerr.ResourceNotFound.Code, deleted.Results[1].ErrorCode)
	require.Empty(t, w.service.State().Links)
}

// TestDeleteLinkWithMirrors: klink refuses to delete a link while mirrors run, unless forced; then
// it stops them.
func TestDeleteLinkWithMirrors(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	w.sourceTopic("a", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("a", "l").ErrorCode)
	ctx := context.Background()
	r := w.service.HandleLink(ctx, &linkapi.DeleteLinksRequest{Names: []string{"l"}}).(*linkapi.DeleteLinksResponse).Results[0]
	require.Equal(t, kerr.InvalidRequest.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "(a)")
	r = w.service.HandleLink(ctx, &linkapi.DeleteLinksRequest{Names: []string{"l"}, Force: true}).(*linkapi.DeleteLinksResponse).Results[0]
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	require.Empty(t, w.service.State().Links)
	require.Equal(t, model.MirrorStopped, w.service.State().Mirrors["a"].State)
}

// TestReports: what the replicator reports changes the states of links and mirrors.
func TestReports(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("a", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("a", "l").ErrorCode)
	state := func() (model.LinkState, model.MirrorState) {
		s := w.service.State()
		return s.Links["l"].State, s.Mirrors["a"].State
	}
	expect := func(l model.LinkState, m model.MirrorState) {
		t.Helper()
		gotLink, gotMirror := state()
		require.Equal(t, l, gotLink)
		require.Equal(t, m, gotMirror)
	}
	expect(model.LinkActive, model.MirrorPending)
	w.report(model.Event{Kind: model.EventMirrorStarted, Topic: "a"})
	expect(model.LinkActive, model.MirrorActive)
	w.report(model.Event{Kind: model.EventLinkDown, Link: "l", Error: model.ErrTimeout, Message: "no answer"})
	expect(model.LinkUnavailable, model.MirrorSourceUnavailable)
	require.Equal(t, "no answer", w.service.State().Mirrors["a"].ErrorMessage)
	w.report(model.Event{Kind: model.EventLinkUp, Link: "l", SourceClusterID: "source"})
	expect(model.LinkActive, model.MirrorActive)
	w.report(model.Event{Kind: model.EventLinkUp, Link: "l", SourceClusterID: "elsewhere"})
	expect(model.LinkFailed, model.MirrorSourceUnavailable)
	require.Equal(t, model.ErrSourceClusterChanged, w.service.State().Links["l"].Error)
	w.report(model.Event{Kind: model.EventLinkUp, Link: "l", SourceClusterID: "source"})
	expect(model.LinkActive, model.MirrorActive)
	w.report(model.Event{Kind: model.EventMirrorUnavailable, Topic: "a", Error: model.ErrSourceTopicMayBeDeleted})
	expect(model.LinkActive, model.MirrorSourceUnavailable)
	w.report(model.Event{Kind: model.EventMirrorRecovered, Topic: "a"})
	expect(model.LinkActive, model.MirrorActive)
	w.report(model.Event{Kind: model.EventMirrorFailed, Topic: "a", Error: model.ErrUnexpectedTruncation, Message: "cut"})
	expect(model.LinkActive, model.MirrorFailed)
	w.report(model.Event{Kind: model.EventMirrorFailed, Topic: "gone"})
	w.report(model.Event{Kind: model.EventLinkUp, Link: "gone"})
}

// TestLinkConfigAliases: klink accepts the documented product's names of filters, and keeps the
// filters under its own names.
func TestLinkConfigAliases(t *testing.T) {
	w := newWorld(t)
	const alias, filters = linkconfig.ConfigAutoCreateFilters + ".json", `{"topicFilters":[]}`
	r := w.link("twice", alias+"="+filters, linkconfig.ConfigAutoCreateFilters+"="+filters)
	require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), `"auto.create.mirror.topics.filters" is given twice; auto.create.mirror.topics.filters.json is an alias for the same config`)
	require.Zero(t, w.link("l", alias+"="+filters).ErrorCode)
	require.Equal(t, map[string]string{linkconfig.ConfigAutoCreateFilters: filters}, without(w.service.State().Links["l"].Configs, linkconfig.ConfigBootstrapServers))

	alter := func(changes ...linkapi.AlterConfig) linkapi.NameResult {
		req := &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{{Name: "l", Configs: changes}}}
		return w.service.HandleLink(context.Background(), req).(*linkapi.AlterLinkConfigsResponse).Results[0]
	}
	set := func(name, value string) linkapi.AlterConfig {
		return linkapi.AlterConfig{Name: name, Op: linkapi.ConfigSet, Value: &value}
	}
	drop := func(name string) linkapi.AlterConfig {
		return linkapi.AlterConfig{Name: name, Op: linkapi.ConfigDelete}
	}
	for _, both := range [][]linkapi.AlterConfig{
		{set(alias, filters), set(linkconfig.ConfigAutoCreateFilters, filters)}, {set(alias, filters), drop(linkconfig.ConfigAutoCreateFilters)}, {drop(alias), drop(linkconfig.ConfigAutoCreateFilters)},
	} {
		r := alter(both...)
		require.Equal(t, kerr.InvalidConfig.Code, r.ErrorCode)
		require.Contains(t, text(r.ErrorMessage), "is given twice")
	}
	refused := alter(set(alias, "{"))
	require.Equal(t, kerr.InvalidConfig.Code, refused.ErrorCode)
	require.Contains(t, text(refused.ErrorMessage), `auto.create.mirror.topics.filters: "{"`)
	require.Contains(t, text(refused.ErrorMessage), "line 1, column 2: the text ends")
	const all = `{"topicFilters":[{"name":"*","patternType":"literal","filterType":"include"}]}`
	require.Zero(t, alter(set(alias, all)).ErrorCode)
	require.Equal(t, all, w.service.State().Links["l"].Configs[linkconfig.ConfigAutoCreateFilters])
	require.Zero(t, alter(drop(alias)).ErrorCode)
	require.Empty(t, without(w.service.State().Links["l"].Configs, linkconfig.ConfigBootstrapServers))
}

func without(configs map[string]string, name string) map[string]string {
	m := maps.Clone(configs)
	delete(m, name)
	return m
}

func testKey(t testing.TB, fill byte) *store.SecretsKey {
	k, err := store.ParseSecretsKey(strings.Repeat(string("0123456789abcdef"[fill]), 64))
	require.NoError(t, err)
	return k
}
