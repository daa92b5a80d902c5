package admin

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// couldPromote asks whether mirrors could be promoted.
func (w *world) couldPromote(topics ...string) []linkapi.AlteredMirror {
	req := &linkapi.AlterMirrorsRequest{TimeoutMs: 10_000, ValidateOnly: true}
	for _, topic := range topics {
		req.Mirrors = append(req.Mirrors, linkapi.AlterMirror{Topic: topic, Op: linkapi.MirrorPromote})
	}
	return w.service.HandleLink(context.Background(), req).(*linkapi.AlterMirrorsResponse).Results
}

// ofGroup reports whether a fetch of offsets names this group alone.
func ofGroup(r *kmsg.OffsetFetchRequest, group string) bool {
	return r.Group == group || len(r.Groups) == 1 && r.Groups[0].Group == group
}

// TestGroupsBehind: a promotion that is only validated returns, for each mirror, how many groups
// have an offset at the source that the destination lacks. klink looks at both clusters once,
// however many mirrors there are, and writes nothing.
func TestGroupsBehind(t *testing.T) {
	w := offsetWorld(t, "consumer.offset.sync.ms=3600000", `consumer.offset.group.filters={"groupFilters":[
		{"name":"app-","patternType":"PREFIXED","filterType":"INCLUDE"},{"name":"app-not","patternType":"LITERAL","filterType":"EXCLUDE"}]}`)
	topics := []string{"orders"}
	for i := range 20 {
		topics = append(topics, fmt.Sprint("more-", i))
		w.plainMirror(topics[i+1], 1)
		w.reporter.set(topics[i+1], model.PartitionStatus{MirrorEnd: 100})
	}
	w.plainMirror("done", 1)
	// The only periodic run of the link has ended.
	require.Eventually(t, func() bool {
		for _, status := range w.service.TasksOf("l") {
			if status.Name == consumerOffsetTask.name {
				return !status.LastRun.IsZero()
			}
		}
		return false
	}, 10*time.Second, 10*time.Millisecond)

	w.atSource("app-same", "orders", "", 40)
	w.commit("app-same", "orders", "", 40)
	w.atSource("app-ahead", "orders", "", 40)
	w.commit("app-ahead", "orders", "", 50)
	w.atSource("app-new", "orders", "", 40, 50) // two partitions, one group
	w.atSource("app-new", "more-3", "", 7)
	w.atSource("app-below", "orders", "", 60)
	w.commit("app-below", "orders", "", 50)
	w.atSource("app-clamped", "orders", "", 105)
	w.commit("app-clamped", "orders", "", 100)
	w.atSource("app-busy", "orders", "", 60)
	w.active("app-busy", "orders", 50)
	w.atSource("app-not", "orders", "", 40)
	w.atSource("other", "orders", "", 40)
	require.Zero(t, w.alter("done", linkapi.MirrorFailover).ErrorCode)

	var mu sync.Mutex
	counts := map[string]int{}
	for name, c := range map[string]*kfake.Cluster{"source": w.source, "destination": w.destination} {
		c.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			mu.Lock()
			defer mu.Unlock()
			// The active consumer may still be fetching its own group's offsets.
			if r, ok := req.(*kmsg.OffsetFetchRequest); ok && ofGroup(r, "app-busy") {
				return nil, nil, false
			}
			counts[name+" "+kmsg.NameForKey(req.Key())]++
			return nil, nil, false
		})
	}
	results := w.couldPromote(append(topics, "done", "none")...)
	mu.Lock()
	counted := maps.Clone(counts) // a failed assertion must not hold up the clusters
	mu.Unlock()
	for _, what := range []string{"source ListGroups", "source OffsetFetch", "destination ListGroups", "destination OffsetFetch"} {
		require.Equal(t, 1, counted[what], "%s, of %v", what, counted)
	}
	require.Zero(t, counted["destination OffsetCommit"])

	for i, topic := range topics {
		r := results[i]
		require.Equal(t, topic, r.Name)
		require.Zero(t, r.ErrorCode)
		require.True(t, r.GroupsSynced)
		switch topic {
		case "orders":
			require.EqualValues(t, 3, r.GroupsBehind, "app-new, app-below, app-clamped")
			require.Equal(t, "klink leaves alone the offsets of groups that are active at the destination: app-busy", text(r.GroupsMessage))
		case "more-3":
			require.EqualValues(t, 1, r.GroupsBehind, "app-new")
			require.Nil(t, r.GroupsMessage)
		default:
			require.Zero(t, r.GroupsBehind)
		}
	}
	done, none := results[len(topics)], results[len(topics)+1]
	require.Zero(t, done.ErrorCode)
	require.False(t, done.GroupsSynced)
	require.EqualValues(t, -1, done.GroupsBehind)
	require.Contains(t, text(done.GroupsMessage), "STOPPED")
	require.NotZero(t, none.ErrorCode)
	require.EqualValues(t, -1, none.GroupsBehind)
	require.Nil(t, none.GroupsMessage)
	w.none("app-new")

	// A promotion carries over exactly that, once the mirror has every record.
	w.reporter.set("orders", model.PartitionStatus{MirrorEnd: 105}, model.PartitionStatus{MirrorEnd: 50})
	errs := w.service.syncOffsetsOf(t.Context(), w.service.State().Links["l"], []string{"orders"})
	require.Len(t, errs, 1)
	require.Contains(t, errs[0].Message, "app-busy")
	for group, at := range map[string]int64{"app-same": 40, "app-ahead": 50, "app-new": 40, "app-below": 60, "app-clamped": 105, "app-busy": 50} {
		require.Equal(t, at, w.committed(group, "orders", 0).At, group)
	}
}

// TestGroupsBehindNotKnown: if groups are not synced, or klink cannot look at them, the answer says
// so, and not that none is behind. The mirror could still be promoted.
func TestGroupsBehindNotKnown(t *testing.T) {
	w := offsetWorld(t, "consumer.offset.sync.enable=false")
	w.atSource("g", "orders", "", 40)
	r := w.couldPromote("orders")[0]
	require.Zero(t, r.ErrorCode)
	require.False(t, r.GroupsSynced)
	require.EqualValues(t, -1, r.GroupsBehind)
	require.Contains(t, text(r.GroupsMessage), "does not sync group offsets")

	a := &aclWorld{t: t, service: w.service}
	a.set("l", "consumer.offset.sync.enable=true", "consumer.offset.sync.ms=3600000")
	for _, key := range []kmsg.Key{kmsg.ListGroups, kmsg.OffsetFetch} {
		for name, c := range map[string]*kfake.Cluster{"source": w.source, "destination": w.destination} {
			t.Run(fmt.Sprint(name, " ", key.Name()), func(t *testing.T) {
				var refuse atomic.Bool
				refuse.Store(true)
				defer refuse.Store(false)
				c.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
					if !refuse.Load() {
						return nil, nil, false
					}
					c.KeepControl()
					switch resp := req.ResponseKind().(type) {
					case *kmsg.ListGroupsResponse:
						resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
						return resp, nil, true
					case *kmsg.OffsetFetchResponse:
						for _, g := range req.(*kmsg.OffsetFetchRequest).Groups {
							of := kmsg.NewOffsetFetchResponseGroup()
							of.Group, of.ErrorCode = g.Group, kerr.GroupAuthorizationFailed.Code
							resp.Groups = append(resp.Groups, of)
						}
						return resp, nil, true
					}
					return nil, nil, false
				})
				r := w.couldPromote("orders")[0]
				require.Zero(t, r.ErrorCode)
				require.True(t, r.GroupsSynced)
				require.EqualValues(t, -1, r.GroupsBehind)
				require.Contains(t, text(r.GroupsMessage), "could not find out how far groups are behind: ")
			})
		}
	}
	w.source.Close()
	r = w.couldPromote("orders")[0]
	require.Zero(t, r.ErrorCode)
	require.EqualValues(t, -1, r.GroupsBehind)
	require.Contains(t, text(r.GroupsMessage), "could not find out how far groups are behind: ")
}
