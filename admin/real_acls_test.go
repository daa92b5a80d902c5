package admin

import (
	"context"
	"strings"
	"testing"
	"time"

	"klink/admin/aclsync"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"
	"klink/router"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRealACLSync takes the steps of TestACLSync on Apache Kafka with its authorizer, with users
// that have what docs/operations.md says they need, and no more.
func TestRealACLSync(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	source := kafkatest.Start(t, kafkatest.SASLPlaintext("reader", "reader-secret"))
	destination := kafkatest.Start(t, kafkatest.SASLPlaintext("klink", "klink-secret"))
	a := &aclWorld{t: t, src: source.Client(t), dst: destination.Client(t)}
	grant := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			a.grants = append(a.grants, parseACL(t, text))
			a.create(a.dst, text)
		}
	}
	for _, operation := range []string{"CREATE", "DESCRIBE", "DESCRIBE_CONFIGS", "READ", "WRITE"} {
		grant("TOPIC LITERAL _klink_state User:klink * " + operation)
	}
	grant(
		"TRANSACTIONAL_ID LITERAL _klink_state User:klink * DESCRIBE", "TRANSACTIONAL_ID LITERAL _klink_state User:klink * WRITE",
		"CLUSTER LITERAL kafka-cluster User:klink * DESCRIBE",
	)
	service, err := New(Config{
		Destination: append(destination.ClientOpts("klink", "klink-secret"), kgo.SeedBrokers(destination.Bootstrap())), Logger: testLogger(t), AllowPlaintextSecrets: true,
		Publish: func(*router.Snapshot) {},
	})
	require.NoError(t, err)
	t.Cleanup(service.Close)
	require.NoError(t, service.Start(ctx))
	require.NoError(t, service.waitReady(ctx))
	a.service = service

	link := func(name string, properties map[string]string, configs ...string) {
		t.Helper()
		create := linkapi.CreateLink{Name: name}
		add := func(key, value string) {
			create.Configs = append(create.Configs, linkapi.Config{Name: key, Value: &value})
		}
		for key, value := range properties {
			add(key, value)
		}
		for _, c := range configs {
			key, value, _ := strings.Cut(c, "=")
			add(key, value)
		}
		r := service.HandleLink(ctx, &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{create}}).(*linkapi.CreateLinksResponse).Results[0]
		require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	}
	asReader := source.ClientProperties("reader", "reader-secret")
	asReader[linkconfig.ConfigBootstrapServers] = source.Bootstrap()
	fails := func(name string, code model.Error, texts ...string) {
		t.Helper()
		status := a.task(name)
		require.Equal(t, model.TaskInError, status.State)
		require.Equal(t, code, status.Errors[0].Code, status.Errors[0].Message)
		for _, text := range texts {
			require.Contains(t, status.Errors[0].Message, text)
		}
		a.has()
		a.remembers(name)
	}

	a.create(a.src, aliceReads)
	link("denied", asReader, aclsOn, often, everyACL)
	fails("denied", model.ErrAuthorization, "the source", "grant it DESCRIBE on the cluster")
	a.create(a.src, "CLUSTER LITERAL kafka-cluster User:reader * DESCRIBE")
	fails("denied", model.ErrAuthorization, "the destination", "grant it ALTER on the cluster")
	a.deleteLink("denied")
	grant("CLUSTER LITERAL kafka-cluster User:klink * ALTER")

	open := kafkatest.Shared(t, "source") // has no authorizer
	link("open", map[string]string{linkconfig.ConfigBootstrapServers: open.Bootstrap()}, aclsOn, often, everyACL)
	fails("open", model.ErrSecurityDisabled, "the source", "authorizer.class.name")
	a.deleteLink("open")

	a.delete(a.src, aliceReads)
	testACLSync(t, a, func(configs ...string) { link("l", asReader, configs...) })

	// Filters as the broker understands them, by name: MATCH finds what applies to a topic.
	a.create(a.src, "TOPIC PREFIXED sho User:dave * WRITE ALLOW", "TOPIC LITERAL shopping User:dave * WRITE ALLOW", "TOPIC PREFIXED shops User:dave * WRITE ALLOW")
	link("match", asReader, aclsOn, often, "acl.filters="+aclFiltersOf(`"resourceType":"topic","patternType":"match","name":"shop"`, ``))
	a.has(aliceReads, bobWrites, carolReads, groupOfBob, localsGroup, "TOPIC PREFIXED sho User:dave * WRITE ALLOW")
	a.remembers("match", "TOPIC PREFIXED sho User:dave * WRITE ALLOW")
}

// TestRealManyACLs syncs so many ACLs that they need several requests and many records.
func TestRealManyACLs(t *testing.T) {
	source, destination := kafkatest.Start(t, kafkatest.SASLPlaintext()), kafkatest.Start(t, kafkatest.SASLPlaintext())
	service, err := New(Config{
		Destination: append(destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword), kgo.SeedBrokers(destination.Bootstrap())), Logger: testLogger(t), AllowPlaintextSecrets: true,
		Publish: func(*router.Snapshot) {},
	})
	require.NoError(t, err)
	t.Cleanup(service.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, service.Start(ctx))
	require.NoError(t, service.waitReady(ctx))
	a := &aclWorld{t: t, service: service, src: source.Client(t), dst: destination.Client(t)}
	const many = 3000
	var acls []aclsync.Binding
	for i := range many {
		acls = append(acls, numberedACL(i))
	}
	for a, err := range aclsync.Create(ctx, a.src, acls) {
		require.NoError(t, err, a)
	}
	create := linkapi.CreateLink{Name: "l"}
	properties := source.ClientProperties(kafkatest.SuperUser, kafkatest.SuperUserPassword)
	properties[linkconfig.ConfigBootstrapServers], properties[linkconfig.ConfigACLSync], properties[linkconfig.ConfigACLSyncMs] = source.Bootstrap(), "true", "3600000"
	properties[linkconfig.ConfigACLFilters] = aclFiltersOf(``, ``)
	for key, value := range properties {
		create.Configs = append(create.Configs, linkapi.Config{Name: key, Value: &value})
	}
	began := time.Now()
	r := service.HandleLink(ctx, &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{create}}).(*linkapi.CreateLinksResponse).Results[0]
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	status := a.taskSince("l", began)
	require.Empty(t, status.Errors)
	t.Logf("%d ACLs in %s", many, time.Since(began))
	for a, err := range aclsync.Delete(ctx, a.src, acls[1000:]) {
		require.NoError(t, err, a)
	}
	began = time.Now()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Len(t, a.sync("l", true).Deletes, many-1000)
	}, 20*time.Second, 100*time.Millisecond)
	resp := a.sync("l", false)
	require.Zero(t, resp.ErrorCode, text(resp.ErrorMessage))
	require.Len(t, resp.Deletes, many-1000)
	require.Len(t, resp.Present, 1000)
	t.Logf("%d deleted in %s", many-1000, time.Since(began))
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		left, err := aclsync.Describe(ctx, a.dst, aclsync.Any)
		require.NoError(t, err)
		require.Len(t, left, 1000)
	}, 20*time.Second, 100*time.Millisecond)
}

// TestRealACLSyncGivesNothingAway: the administrator of the source grants himself the destination's
// resources, and denies them to klink. klink copies none of that, and the task says so.
func TestRealACLSyncGivesNothingAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	source := kafkatest.Start(t, kafkatest.SASLPlaintext("mallory", "mallory-secret"))
	destination := kafkatest.Start(t, kafkatest.SASLPlaintext("klink", "klink-secret", "mallory", "mallory-secret"))
	a := &aclWorld{t: t, src: source.Client(t), dst: destination.Client(t)}
	for _, text := range []string{
		"TOPIC PREFIXED _klink_ User:klink * ALL ALLOW", "GROUP PREFIXED _klink_ User:klink * ALL ALLOW",
		"TRANSACTIONAL_ID LITERAL * User:klink * ALL ALLOW", "CLUSTER LITERAL kafka-cluster User:klink * ALL ALLOW",
	} {
		a.grants = append(a.grants, parseACL(t, text))
		a.create(a.dst, text)
	}
	service, err := New(Config{
		Destination: append(destination.ClientOpts("klink", "klink-secret"), kgo.SeedBrokers(destination.Bootstrap())), Logger: testLogger(t), AllowPlaintextSecrets: true,
		Publish: func(*router.Snapshot) {}, OwnPrincipals: []string{"User:klink"},
	})
	require.NoError(t, err)
	t.Cleanup(service.Close)
	require.NoError(t, service.Start(ctx))
	require.NoError(t, service.waitReady(ctx))
	a.service = service
	a.create(a.src, aliceReads,
		"CLUSTER LITERAL kafka-cluster User:mallory * ALTER ALLOW", "CLUSTER LITERAL kafka-cluster User:* * ALL DENY",
		"TOPIC LITERAL * User:mallory * ALL ALLOW", "TOPIC PREFIXED _k User:mallory * WRITE ALLOW", "TOPIC LITERAL _klink_state User:mallory * WRITE ALLOW",
		"TRANSACTIONAL_ID LITERAL * User:mallory * WRITE ALLOW", "USER LITERAL User:klink User:mallory * CREATE_TOKENS ALLOW",
		"TOPIC LITERAL _klink_state User:klink * ALL DENY", "TOPIC LITERAL * User:* * WRITE DENY",
	)
	create := linkapi.CreateLink{Name: "l"}
	properties := source.ClientProperties(kafkatest.SuperUser, kafkatest.SuperUserPassword)
	properties[linkconfig.ConfigBootstrapServers], properties[linkconfig.ConfigACLSync], properties[linkconfig.ConfigACLSyncMs] = source.Bootstrap(), "true", "1000"
	properties[linkconfig.ConfigACLFilters] = aclFiltersOf(``, ``)
	for key, value := range properties {
		create.Configs = append(create.Configs, linkapi.Config{Name: key, Value: &value})
	}
	r := service.HandleLink(ctx, &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{create}}).(*linkapi.CreateLinksResponse).Results[0]
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	status := a.task("l")
	a.has(aliceReads)

	require.Equal(t, model.TaskActive, status.State)
	require.False(t, status.LastSuccess.IsZero())
	var notes []string
	for _, e := range status.Errors {
		require.Equal(t, model.ErrLeftOut, e.Code, e.Message)
		notes = append(notes, e.Message)
	}
	all := strings.Join(notes, "\n")
	for _, text := range []string{"the whole cluster", "klink's own principal", "deny everybody", "cover klink's own names", "create tokens"} {
		require.Contains(t, all, text)
	}

	mallory := kafkatest.NewClient(t, append(destination.ClientOpts("mallory", "mallory-secret"), kgo.SeedBrokers(destination.Bootstrap()))...)
	for _, err := range aclsync.Create(ctx, mallory, []aclsync.Binding{parseACL(t, "TOPIC LITERAL orders User:mallory * ALL ALLOW")}) {
		require.ErrorContains(t, err, "CLUSTER_AUTHORIZATION_FAILED", "the source's administrator rules the destination")
	}
	require.NoError(t, service.update(ctx, func(tx *store.Tx) error { // klink goes on writing its state
		l, err := tx.Link("l")
		if err != nil {
			return err
		}
		return tx.PutLink("l", l.Clone())
	}))
}
