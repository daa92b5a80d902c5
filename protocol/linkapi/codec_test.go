package linkapi

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func throttled(ms int32) ResponseHead { return ResponseHead{ThrottleMs: ms} }

func ptr(s string) *string { return &s }

// samples are one of each message with every field set.
func samples() []message {
	results := []NameResult{{Name: "orders", ErrorCode: 42, ErrorMessage: ptr("why")}, {Name: "ok"}}
	configs := []Config{{Name: "bootstrap.servers", Value: ptr("a:1,b:2")}, {Name: "null"}}
	return []message{
		&CreateLinksRequest{TimeoutMs: 1, ValidateOnly: true, SkipConnect: true, Links: []CreateLink{{Name: "east", Configs: configs}, {Name: "bare"}}},
		&CreateLinksResponse{ResponseHead: throttled(2), Results: []CreateLinkResult{{Name: "east", ErrorCode: -1, ErrorMessage: ptr(""), ID: "id", SourceClusterID: "source"}}},
		&DeleteLinksRequest{TimeoutMs: 3, Force: true, Names: []string{"east", ""}},
		&DeleteLinksResponse{ResponseHead: throttled(4), Results: results},
		&ListLinksRequest{},
		&ListLinksResponse{ResponseHead: throttled(5), ErrorCode: 31, ErrorMessage: ptr("no"), Links: []ListedLink{{Name: "east", ID: "id", State: "ACTIVE", Error: "none", SourceClusterID: "source", MirrorCount: 6}}},
		&DescribeLinksRequest{Names: []string{"east"}},
		&DescribeLinksResponse{ResponseHead: throttled(7), ErrorCode: 1, Links: []DescribedLink{{
			Name: "east", ErrorCode: 91, ErrorMessage: ptr("no"), ID: "id", State: "FAILED", Error: "AUTHENTICATION_ERROR",
			StateMessage: "text", SourceClusterID: "source", DestinationClusterID: "destination",
			Configs: []DescribedConfig{{Name: "sasl.jaas.config", Value: ptr("[hidden]"), Sensitive: true}, {Name: "x", IsDefault: true}},
		}}},
		&AlterLinkConfigsRequest{TimeoutMs: 8, ValidateOnly: true, Links: []AlterLink{{Name: "east", Configs: []AlterConfig{{Name: "a", Op: ConfigSet, Value: ptr("b")}, {Name: "c", Op: ConfigDelete}}}}},
		&AlterLinkConfigsResponse{ResponseHead: throttled(9), Results: results},
		&CreateMirrorsRequest{TimeoutMs: 10, ValidateOnly: true, Mirrors: []CreateMirror{{Topic: "orders", Link: "east", SourceTopic: "orders", NumPartitions: -1, ReplicationFactor: 3, Configs: configs}}},
		&CreateMirrorsResponse{ResponseHead: throttled(11), Results: results},
		&ListMirrorsRequest{Link: ptr("east"), IncludeStopped: true},
		&ListMirrorsResponse{ResponseHead: throttled(12), ErrorCode: 2, ErrorMessage: ptr("no"), Mirrors: []ListedMirror{{
			Link: "east", Topic: "orders", SourceTopic: "orders", State: "FAILED", Error: "FOREIGN_WRITE",
			StateTimeMs: 1_700_000_000_000, NumPartitions: 13, MaxLag: -1,
		}}},
		&DescribeMirrorsRequest{},
		&DescribeMirrorsResponse{ResponseHead: throttled(14), ErrorCode: 3, Mirrors: []DescribedMirror{{
			Topic: "orders", ErrorCode: 4, ErrorMessage: ptr("no"), Link: "east", SourceTopic: "orders", State: "ACTIVE", Error: "e",
			StateMessage: "m", StateTimeMs: 15,
			DirectAccess: true, DirectAccessReason: "aligned",
			Partitions: []DescribedPartition{{
				Partition: 16, SourceStartOffset: 22, SourceEndOffset: 17, SourceLastStableOffset: 23, MirrorStartOffset: 24,
				MirrorEndOffset: 18, Lag: 19, LagMs: 31, LastFetchTimeMs: 20, Aligned: true, Shift: -21, ShiftBegan: 25, ShiftReason: "policy",
				JoinedBatches: 26,
			}},
			ConfigDrift: []ConfigDrift{{Name: "min.insync.replicas", SourceValue: ptr("2"), MirrorValue: ptr("")}, {Name: "null"}},
			Notices:     []string{"more partitions", ""},
		}}},
		&AlterMirrorsRequest{TimeoutMs: 22, ValidateOnly: true, Mirrors: []AlterMirror{{Topic: "orders", Op: MirrorFailover}}},
		&AlterMirrorsResponse{ResponseHead: throttled(23), Results: []AlteredMirror{
			{Name: "orders", ErrorCode: 42, ErrorMessage: ptr("why"), GroupsBehind: -1}, {Name: "ok", GroupsSynced: true, GroupsBehind: 32, GroupsMessage: ptr("busy")},
		}},
		&ListLinkTasksRequest{Link: ptr("east")},
		&ListLinkTasksResponse{ResponseHead: throttled(24), ErrorCode: 5, ErrorMessage: ptr("no"), Links: []LinkTasks{
			{Name: "east", Tasks: []LinkTask{
				{
					Name: "TopicConfigsSync", State: "IN_ERROR", IntervalMs: 25, LastRunTimeMs: 26, LastSuccessTimeMs: -1,
					Errors: []LinkTaskError{{Code: "TIMEOUT_ERROR", Message: "why"}, {}},
				},
				{Name: "bare"},
			}},
			{Name: "none", ErrorCode: 91, ErrorMessage: ptr("no such link")},
		}},
		&MigrateGroupsRequest{TimeoutMs: 25, ValidateOnly: true, Groups: []MigrateGroup{{Group: "billing", Link: "east", Force: true}, {}}},
		&MigrateGroupsResponse{ResponseHead: throttled(26), Results: []MigratedGroup{
			{Group: "billing", Link: "east", Partitions: []MigratedPartition{{Topic: "orders", Partition: 27, SourceOffset: 105, DestinationOffset: 100, ClampedBy: 5}, {}}},
			{Group: "busy", Link: "east", ErrorCode: 68, ErrorMessage: ptr("why")},
		}},
		&SyncACLsRequest{TimeoutMs: 24, ValidateOnly: true, Link: "east"},
		&SyncACLsResponse{
			ResponseHead: throttled(25), ErrorCode: 54, ErrorMessage: ptr("no"),
			Adds:    []SyncedACL{{ResourceType: "TOPIC", ResourceName: "orders", PatternType: "LITERAL", Principal: "User:a", Host: "*", Operation: "READ", PermissionType: "ALLOW", ErrorCode: 31, ErrorMessage: ptr("why")}},
			Deletes: []SyncedACL{{ResourceType: "GROUP", ResourceName: "g", PatternType: "PREFIXED", Principal: "User:b", Host: "h", Operation: "15", PermissionType: "DENY", Managed: true}},
			Present: []SyncedACL{{ResourceType: "CLUSTER"}},
		},
		&CheckClusterRequest{TimeoutMs: 33, Link: ptr("east")},
		&CheckClusterResponse{ResponseHead: throttled(34), ErrorCode: 5, ErrorMessage: ptr("no"), ClusterID: "dst", Needs: []ClusterNeed{
			{Side: "destination", Kind: "api", Name: "Fetch", Use: "reading", Required: true, State: NeedMissing, Consequence: "nothing", Detail: "why"}, {},
		}},
	}
}

// TestGoldenBytes compares the bytes of each message with testdata/messages.golden: what one
// version of klink sends, all later ones have to understand. If it fails, run with KLINK_REWRITE=1
// and look at the difference.
func TestGoldenBytes(t *testing.T) {
	var out strings.Builder
	for i, m := range samples() {
		require.Equal(t, nameOf(messages(t)[i]), nameOf(m), "a sample of each message, in their order")
		fmt.Fprintf(&out, "%s v%d\n%s\n", nameOf(m), m.GetVersion(), hex.Dump(m.AppendTo(nil)))
	}
	path := filepath.Join("testdata", "messages.golden")
	if os.Getenv("KLINK_REWRITE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}

func empty(m message) message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(message) }

func TestCutAndTooLong(t *testing.T) {
	for _, m := range samples() {
		wire := m.AppendTo(nil)
		for cut := range len(wire) {
			err := empty(m).ReadFrom(wire[:cut])
			require.ErrorIs(t, err, ErrMalformed, "%s cut at %d of %d", nameOf(m), cut, len(wire))
			require.ErrorContains(t, err, Name(m.Key()))
		}
		require.ErrorIs(t, empty(m).ReadFrom(append(wire, 0)), ErrMalformed, "%s with a byte too many", nameOf(m))
	}
}

func TestUnknownTagsAreSkipped(t *testing.T) {
	tags := []byte{2, 0, 3, 'a', 'b', 'c', 9, 0} // two of them: number, size, value
	var m AlterMirrorsRequest
	wire := []byte{0, 0, 0, 1, 0, 2, 2, 'T', byte(MirrorResume)}
	wire = append(wire, tags...) // of the AlterMirror
	wire = append(wire, tags...) // of the request
	require.NoError(t, m.ReadFrom(wire))
	require.Equal(t, AlterMirrorsRequest{TimeoutMs: 1, Mirrors: []AlterMirror{{Topic: "T", Op: MirrorResume}}}, m)
}

func TestHostileLengths(t *testing.T) {
	many := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32 - 1
	for _, c := range []struct {
		name string
		m    message
		wire []byte
	}{
		{"structs", new(AlterMirrorsRequest), append([]byte{0, 0, 0, 1, 0}, many...)},
		{"strings", new(DeleteLinksRequest), append([]byte{0, 0, 0, 1, 0, 0}, many...)},
		{"nullable strings", new(DescribeLinksRequest), many},
		{"null array", new(DeleteLinksRequest), []byte{0, 0, 0, 1, 0, 0, 0, 0}},
		{"a million structs in no bytes", new(AlterMirrorsRequest), []byte{0, 0, 0, 1, 0, 0xc1, 0x84, 0x3d}},
		{"100,000 structs of 3 bytes in one byte less", new(AlterMirrorsRequest), append([]byte{0, 0, 0, 1, 0, 0xa1, 0x8d, 0x06}, make([]byte, 299_999)...)},
		{"string", new(DeleteLinksRequest), append([]byte{0, 0, 0, 1, 0, 0, 2}, many...)},
		{"null string", new(DeleteLinksRequest), []byte{0, 0, 0, 1, 0, 0, 2, 0, 0}},
		{"nullable string", new(ListMirrorsRequest), many},
		{"varint without an end", new(DescribeLinksRequest), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"count of tags", new(ListLinksRequest), many}, // four billion rounds would take a minute
		{"size of a tag", new(ListLinksRequest), append([]byte{1, 0}, many...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.ErrorIs(t, c.m.ReadFrom(c.wire), ErrMalformed)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = c.m.ReadFrom(c.wire)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated")
		})
	}
}

func TestAllocationIsBoundedByTheBytes(t *testing.T) {
	// As many of the smallest elements as fit into the bytes: the array is allocated, but not for
	// one element more.
	wire := append([]byte{0, 0, 0, 1, 0, 101}, make([]byte, 300)...) // 100 x (string of 1 byte, int8, tags)
	for i := 6; i < len(wire); i += 3 {
		wire[i] = 1
	}
	var m AlterMirrorsRequest
	require.NoError(t, m.ReadFrom(append(wire, 0)))
	require.Len(t, m.Mirrors, 100)
}

func TestReadRequest(t *testing.T) {
	body := (&DescribeLinksRequest{Names: []string{}}).AppendTo(nil)
	req, err := ReadRequest(KeyDescribeLinks, 0, body)
	require.NoError(t, err)
	require.Equal(t, &DescribeLinksRequest{Names: []string{}}, req, "an empty array is not null")

	_, err = ReadRequest(KeyDescribeLinks, 0, body[:1])
	require.ErrorIs(t, err, ErrMalformed)
	_, err = ReadRequest(KeyDescribeLinks, 0, make([]byte, MaxRequestBytes+1))
	require.ErrorIs(t, err, ErrMalformed)
	_, err = ReadRequest(KeyDescribeLinks, 1, body)
	require.ErrorContains(t, err, "version 1 of DescribeLinks")
	_, err = ReadRequest(KeyDescribeLinks, -1, body)
	require.Error(t, err)
	for _, key := range []int16{MinKey - 1, MaxKey + 1, 0, -1} {
		_, err = ReadRequest(key, 0, body)
		require.ErrorContains(t, err, fmt.Sprint(key))
		_, ok := NewRequest(key)
		require.False(t, ok)
	}
}

func TestAPIs(t *testing.T) {
	apis := APIs()
	require.Equal(t, MinKey, apis[0].Key)
	require.Equal(t, MaxKey, apis[len(apis)-1].Key)
	last := MinKey - 1
	for _, a := range apis {
		require.Greater(t, a.Key, last, "in the order of the keys")
		last = a.Key
		req, ok := NewRequest(a.Key)
		require.True(t, ok)
		require.Equal(t, a.Name+"Request", nameOf(req))
		require.Equal(t, a.Max, req.MaxVersion())
		req.SetVersion(a.Max)
		resp := req.ResponseKind()
		require.Equal(t, a.Name+"Response", nameOf(resp))
		for _, m := range []message{req, resp, resp.RequestKind()} {
			require.Equal(t, a.Key, m.Key())
			require.Equal(t, a.Max, m.MaxVersion())
			require.Equal(t, a.Max, m.GetVersion())
			require.True(t, m.IsFlexible())
		}
		_, changes := req.(kmsg.TimeoutRequest)
		require.Equal(t, a.Alter || a.Key == KeyCheckCluster, changes, "what takes long has a timeout, and the client waits for it")
	}
	apis[0].Name = "changed"
	require.Equal(t, "CreateLinks", Name(KeyCreateLinks), "the table is not the caller's")
	require.Equal(t, "7", Name(7))
}

// A client that may not do what it asks for is told so for everything that its request names.
func TestDenied(t *testing.T) {
	why := ptr("no")
	named := func(names ...string) (list []NameResult) {
		for _, name := range names {
			list = append(list, NameResult{Name: name, ErrorCode: 31, ErrorMessage: why})
		}
		return list
	}
	want := []kmsg.Response{
		&CreateLinksResponse{Results: []CreateLinkResult{{Name: "east", ErrorCode: 31, ErrorMessage: why}, {Name: "bare", ErrorCode: 31, ErrorMessage: why}}},
		&DeleteLinksResponse{Results: named("east", "")},
		&ListLinksResponse{ErrorCode: 31, ErrorMessage: why},
		&DescribeLinksResponse{ErrorCode: 31, ErrorMessage: why, Links: []DescribedLink{{Name: "east", ErrorCode: 31, ErrorMessage: why}}},
		&AlterLinkConfigsResponse{Results: named("east")},
		&CreateMirrorsResponse{Results: named("orders")},
		&ListMirrorsResponse{ErrorCode: 31, ErrorMessage: why},
		&DescribeMirrorsResponse{ErrorCode: 31, ErrorMessage: why},
		&AlterMirrorsResponse{Results: []AlteredMirror{{Name: "orders", ErrorCode: 31, ErrorMessage: why, GroupsBehind: -1}}},
		&ListLinkTasksResponse{ErrorCode: 31, ErrorMessage: why},
		&MigrateGroupsResponse{Results: []MigratedGroup{{Group: "billing", Link: "east", ErrorCode: 31, ErrorMessage: why}, {ErrorCode: 31, ErrorMessage: why}}},
		&SyncACLsResponse{ErrorCode: 31, ErrorMessage: why},
		&CheckClusterResponse{ErrorCode: 31, ErrorMessage: why},
	}
	var got []kmsg.Response
	for _, m := range samples() {
		if req, ok := m.(Request); ok {
			got = append(got, req.Denied(31, why))
		}
	}
	require.Equal(t, want, got)
	topics := DescribeMirrorsRequest{Topics: []string{"orders"}}
	require.Equal(t, []DescribedMirror{{Topic: "orders", ErrorCode: 31, ErrorMessage: why}}, topics.Denied(31, why).(*DescribeMirrorsResponse).Mirrors)
}
