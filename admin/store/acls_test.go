package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"klink/admin/aclsync"
	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
)

// remember makes the entries of numbered ACLs.
func remember(run string, numbers ...int) map[aclsync.Binding]ACLEntry {
	acls := map[aclsync.Binding]ACLEntry{}
	for _, n := range numbers {
		acls[numberedACL(n)] = ACLEntry{Binding: numberedACL(n), Run: run}
	}
	return acls
}

// TestRememberedACLs: remembered ACLs survive a restart, belong to one link, and are deleted with
// it.
func TestRememberedACLs(t *testing.T) {
	opts := storeCluster(t)
	s, ctx := openStore(t, opts, nil), context.Background()
	many := make([]int, 2000)
	for i := range many {
		many[i] = i
	}
	require.NoError(t, s.Update(ctx, func(tx *Tx) error {
		for _, l := range []string{"a", "b"} {
			if err := tx.PutLink(l, &LinkRecord{ID: l + "-id", State: model.LinkActive}); err != nil {
				return err
			}
		}
		if err := tx.PutACLs("a", "a-id", remember("1", many...)); err != nil {
			return err
		}
		return tx.PutACLs("b", "b-id", remember("1", 1, 5000))
	}))
	written := len(kafkatest.ReadAll(t, StateTopic, opts...))
	check := func(s *Store, link, id string, want int) {
		t.Helper()
		require.NoError(t, s.Read(func(tx *Tx) error {
			acls, err := tx.ACLs(link, id)
			require.NoError(t, err)
			require.Len(t, acls, want)
			return nil
		}))
	}
	again := openStore(t, opts, nil)
	check(again, "a", "a-id", 2000)
	check(again, "a", "another", 0)
	require.NoError(t, again.Read(func(tx *Tx) error {
		others, err := tx.OtherACLs("a")
		require.NoError(t, err)
		require.Equal(t, aclsync.Set{numberedACL(1): {}, numberedACL(5000): {}}, others)
		return nil
	}))

	// One more ACL writes one record, and no change writes none.
	require.NoError(t, s.Update(ctx, func(tx *Tx) error { return tx.PutACLs("a", "a-id", remember("1", append(many, 9000)...)) }))
	require.NoError(t, s.Update(ctx, func(tx *Tx) error { return tx.PutACLs("a", "a-id", remember("1", append(many, 9000)...)) }))
	require.Len(t, kafkatest.ReadAll(t, StateTopic, opts...), written+1)

	// The ACL records of a link that another klink deleted without them do not count, not even for
	// a new link of the same name.
	require.NoError(t, s.Update(ctx, func(tx *Tx) error { tx.DeleteLink("b"); return nil }))
	require.NoError(t, s.Update(ctx, func(tx *Tx) error {
		others, err := tx.OtherACLs("a")
		require.Empty(t, others)
		if err != nil {
			return err
		}
		return tx.PutLink("b", &LinkRecord{ID: "new", State: model.LinkActive})
	}))
	check(s, "b", "new", 0)
	require.NoError(t, s.Update(ctx, func(tx *Tx) error { return tx.PutACLs("b", "new", remember("2", 7)) }))
	check(s, "b", "new", 1)
	check(s, "b", "b-id", 0)

	require.NoError(t, s.Update(ctx, func(tx *Tx) error {
		tx.DeleteLink("a")
		tx.DeleteACLs("a")
		acls, err := tx.ACLs("a", "a-id") // sees what it has written
		require.Empty(t, acls)
		return err
	}))
	check(openStore(t, opts, nil), "a", "a-id", 0)
	check(s, "b", "new", 1)
}

// TestACLRecordsOfALaterKlink: unknown fields survive. A record that cannot be read stops
// everything except the deletion of its link.
func TestACLRecordsOfALaterKlink(t *testing.T) {
	opts := storeCluster(t)
	ctx := context.Background()
	entry := func(n int) string {
		return fmt.Sprintf(`{"type":"TOPIC","name":"t%d","pattern":"LITERAL","principal":"User:a","host":"*","operation":"READ","permission":"ALLOW","run":"r","why":["new",1.50]}`, n)
	}
	bucket := func(n int) string { return aclsKey("a", numberedACL(n).Bucket(aclBuckets)) }
	produceState(t, opts,
		"link/a", `{"version":1,"id":"i","state":"ACTIVE"}`,
		bucket(1), `{"version":1,"link_id":"i","more":{"x":1},"acls":[`+entry(1)+`]}`,
	)
	s := openStore(t, opts, nil)
	require.NoError(t, s.Update(ctx, func(tx *Tx) error {
		acls, err := tx.ACLs("a", "i")
		require.NoError(t, err)
		require.Equal(t, "r", acls[numberedACL(1)].Run)
		// Into the same record.
		for n := 2; ; n++ {
			if bucket(n) == bucket(1) {
				acls[numberedACL(n)] = ACLEntry{Binding: numberedACL(n), Run: "q"}
				return tx.PutACLs("a", "i", acls)
			}
		}
	}))
	records := kafkatest.ReadAll(t, StateTopic, opts...)
	last := string(records[len(records)-1].Value)
	require.Contains(t, last, `"more":{"x":1}`)
	require.Contains(t, last, entry(1))
	require.Contains(t, last, `"run":"q"`)

	for _, key := range []string{"acls/a/3", "acls/a/64"} {
		produceState(t, opts, key, `{"version":2}`)
		require.NoError(t, s.Sync(ctx))
		require.NoError(t, s.Read(func(tx *Tx) error {
			_, err := tx.ACLs("a", "i")
			require.ErrorContains(t, err, key)
			_, err = tx.OtherACLs("b")
			require.ErrorContains(t, err, key)
			return nil
		}))
		require.NoError(t, s.Update(ctx, func(tx *Tx) error { tx.DeleteACLs("a"); return nil }))
		require.NoError(t, s.Read(func(tx *Tx) error {
			acls, err := tx.ACLs("a", "i")
			require.Empty(t, acls)
			return err
		}))
	}
}

// TestTooManyACLs: a record that no broker would take is refused, with an error that says what to
// do.
func TestTooManyACLs(t *testing.T) {
	long := strings.Repeat("x", 30_000)
	r := &aclsRecord{}
	for i := range 40 {
		r.ACLs = append(r.ACLs, ACLEntry{Binding: numberedACL(i)})
		r.ACLs[i].Principal = "User:" + long
	}
	_, err := r.encode()
	require.ErrorContains(t, err, "narrow acl.filters")
	r.ACLs = r.ACLs[:20]
	_, err = r.encode()
	require.NoError(t, err)
}
