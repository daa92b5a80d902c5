package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// createACL lets a user read a topic at a cluster.
func createACL(t *testing.T, address, user, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	require.NoError(t, err)
	defer client.Close()
	req := kmsg.NewPtrCreateACLsRequest()
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourcePatternType, acl.ResourceName = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, topic
	acl.Principal, acl.Host, acl.Operation, acl.PermissionType = "User:"+user, "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	req.Creations = append(req.Creations, acl)
	resp, err := req.RequestWith(context.Background(), client)
	require.NoError(t, err)
	require.Zero(t, resp.Results[0].ErrorCode)
}

func TestLinkACLSync(t *testing.T) {
	w := newWorld(t)
	w.must("", "link", "create", "east", "--config-file", "source.config", "--config", "acl.sync.ms=3600000")
	createACL(t, w.source, "alice", "orders")
	createACL(t, w.source, "bob", "orders")
	createACL(t, w.destination, "bob", "orders")
	require.Contains(t, w.refused("", "link", "acl", "sync", "east", "--dry-run"), "acl.filters")
	require.Contains(t, w.refused("", "link", "update", "east", "--config", `acl.filters={"aclFilters":[{"resource":{}}]}`), `; line 1, column 17: a filter has no field "resource"`)
	w.must("", "link", "update", "east", "--config", `{"aclFilters":[{"resourceFilter":{"resourceType":"topic"},"accessFilter":{}}]}`)

	golden(t, filepath.Join("testdata", "link_acl_sync.json"), w.must("", "link", "acl", "sync", "east", "--dry-run", "-o", "json"))
	plan := w.must("", "link", "acl", "sync", "east", "--dry-run")
	require.Regexp(t, `(?m)^ add +\| klink +\| User:alice +\| ALLOW +\| READ +\| TOPIC +\| LITERAL +\| orders +\| \*$`, plan)
	require.Regexp(t, `(?m)^ keep +\| others +\| User:bob `, plan)
	require.Contains(t, plan, "1 to add, 0 to delete, 1 already there.")
	require.Contains(t, w.refused("", "link", "acl", "sync", "east"), "acl.sync.enable=true")

	w.must("", "link", "update", "east", "--config", "acl.sync.enable=true")
	w.eventually("the task has copied the ACL", func() bool {
		return contains(w.must("", "link", "acl", "sync", "east", "--dry-run"), "0 to add", "2 already there", " keep   | klink ")
	})
	createACL(t, w.source, "carol", "orders")
	require.Contains(t, w.must("", "link", "acl", "sync", "east"), "1 added, 0 deleted, 2 already there.")
}
