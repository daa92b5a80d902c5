package store

import (
	"encoding/json"
	"strings"
	"testing"

	"klink/admin/aclsync"
	"klink/admin/caslog"
	"klink/admin/model"

	"github.com/stretchr/testify/require"
)

// TestUnknownFieldsSurvive: fields that a later klink has written into a record are still there
// after this one has changed it.
func TestUnknownFieldsSurvive(t *testing.T) {
	const value = `{"version":1,"id":"x","state":"ACTIVE","state_time_ms":5,"configs":{"a":"b"},"future":{"deep":[1,2.50]},"State":"odd"}`
	r, err := decodeLink([]byte(value))
	require.NoError(t, err)
	require.Equal(t, model.LinkActive, r.State, "only the exact name counts")
	c := r.Clone()
	c.Configs["a"] = "c"
	out, err := c.encode()
	require.NoError(t, err)
	require.JSONEq(t, strings.Replace(value, `"b"`, `"c"`, 1), string(out))
	require.Contains(t, string(out), "2.50", "as it was written")
	require.Equal(t, "b", r.Configs["a"], "records are immutable")
}

// TestRecordGolden pins the format of records: a change breaks those that klink has written before.
func TestRecordGolden(t *testing.T) {
	lz4 := "lz4"
	for want, r := range map[string]encoder{
		`{"configs":{"client.id":"c"},"id":"i","secrets":{"sasl.jaas.config":{"key_id":"k","data":"AQI="}},"source_cluster_id":"s","state":"ACTIVE","state_time_ms":7,"version":1}`: &LinkRecord{
			ID: "i", Configs: map[string]string{"client.id": "c"}, Secrets: map[string]Sealed{"sasl.jaas.config": {"k", []byte{1, 2}}},
			State: model.LinkActive, StateTimeMs: 7, SourceClusterID: "s",
		},
		`{"created":true,"id":"i","link":"l","partitions":2,"source_configs":{"compression.type":"lz4","message.timestamp.after.max.ms":null},"source_topic":"t","source_topic_id":"","stamp":3,"state":"ACTIVE","state_time_ms":7,"topic_id":"AQAAAAAAAAAAAAAAAAAAAA","version":1}`: &MirrorRecord{
			Stamp: StampFormat,
			ID:    "i", Link: "l", SourceTopic: "t", TopicID: TopicID{1}, State: model.MirrorActive, StateTimeMs: 7, Partitions: 2, Created: true,
			SourceConfigs: map[string]*string{"compression.type": &lz4, "message.timestamp.after.max.ms": nil},
		},
		`{"floor":9,"logical":8,"physical":0,"version":1}`: &TimelineRecord{Logical: 8, Floor: 9},
		`{"alignment":{"began":8,"reason":"r"},"end":{"physical":5,"logical":13,"straight":true},"floor":9,"logical":8,"physical":0,"version":1}`: &TimelineRecord{
			Logical: 8, Floor: 9, End: &TimelineEnd{5, 13, true}, Alignment: &Alignment{8, "r"},
		},
		`{"logical":7,"mirror":"m\"","physical":5,"version":1}`: &CheckpointRecord{Version: 1, Mirror: `m"`, Physical: 5, Logical: 7},
		`{"epoch":3,"epoch_end":6,"logical":7,"mirror":"m","physical":5,"version":1}`: &CheckpointRecord{
			Version: 1, Mirror: "m", Physical: 5, Logical: 7, Epoch: 3, EpochEnd: 6,
		},
		`{"logical":7,"mirror":"m","physical":5,"straight":true,"version":1}`: &CheckpointRecord{Version: 1, Mirror: "m", Physical: 5, Logical: 7, Straight: true},
		`{"acls":[{"type":"TRANSACTIONAL_ID","name":"t","pattern":"PREFIXED","principal":"User:a","host":"*","operation":"99","permission":"DENY","run":"r"}],"link_id":"i","version":1}`: &aclsRecord{
			LinkID: "i", ACLs: []ACLEntry{{Binding: aclsync.Binding{ResourceType: 5, Pattern: 4, Name: "t", Principal: "User:a", Host: "*", Operation: 99, Permission: 2}, Run: "r"}},
		},
		`{"acls":[{"type":"TOPIC","name":"t","pattern":"LITERAL","principal":"User:a","host":"*","operation":"READ","permission":"ALLOW","run":"r","made":true}],"link_id":"i","version":1}`: &aclsRecord{
			LinkID: "i", ACLs: []ACLEntry{{Binding: aclsync.Binding{ResourceType: 2, Pattern: 3, Name: "t", Principal: "User:a", Host: "*", Operation: 3, Permission: 3}, Run: "r", Made: true}},
		},
		`{"version":1,"link":"i","groups":null,"filters":"f"}`: &OffsetsRecord{Version: 1, Link: "i", Filters: "f"},
		`{"version":1,"link":"i","groups":"AQAAAAAAAAACAAAAAAAAAAMAAAAAAAAA"}`: func() encoder {
			r := NewOffsetsRecord("i", map[GroupHash]GroupPrint{{1}: {Source: OffsetHash{2}, Wrote: OffsetHash{3}}})
			return &r
		}(),
	} {
		value, err := r.encode()
		require.NoError(t, err)
		require.Equal(t, want, string(value))
	}
}

func TestDecodeRefuses(t *testing.T) {
	for value, why := range map[string]string{
		``:                       "not a JSON object",
		`null`:                   "null",
		`[]`:                     "not a JSON object",
		`{}`:                     "no version",
		`{"version":0}`:          "no version",
		`{"version":"1"}`:        "no version",
		`{"version":2}`:          "upgrade",
		`{"version":1}`:          "",
		`{"version":1,"id":7}`:   "id",
		`{"version":1} trailing`: "not a JSON object",
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000): "not a JSON object",
		`{"version":1,"state":"ACTIVE","partitions":-1}`:      "partitions",
		`{"version":1,"state":"ACTIVE","topic_id":"x"}`:       "topic id",
		`{"version":1,"state":"ACTIVE","partitions":1}`:       "development version",
		`{"version":1,"state":"ACTIVE","stamp":2}`:            "development version",
	} {
		_, err := decodeMirror([]byte(value))
		require.Error(t, err, value)
		require.Contains(t, err.Error(), why, value)
	}
	for _, value := range []string{`{"version":1}`, `{"version":1,"physical":0,"logical":0}`, `{"version":1,"physical":0,"logical":0,"floor":1e40}`} {
		_, err := decodeTimeline([]byte(value))
		require.Error(t, err, value)
	}
	for _, more := range []string{
		`"end":{"physical":4,"logical":9}`, `"end":{"physical":5,"logical":-1}`, `"end":7`, `"end":{"physical":5,"logical":9,"straight":1}`, `"alignment":{"began":-2}`,
		`"alignment":{"began":1,"reason":"` + strings.Repeat("x", MaxReasonBytes+1) + `"}`,
	} {
		_, err := decodeTimeline([]byte(`{"version":1,"physical":5,"logical":8,"floor":8,` + more + `}`))
		require.Error(t, err, more)
	}
	for value, why := range map[string]string{
		`null`: "no version", `{"version":2,"physical":1,"logical":1}`: "upgrade", `{"version":1,"physical":1}`: "lacks", `{"version":1,"physical":-1,"logical":1}`: "lacks", `[`: "not a checkpoint",
	} {
		_, err := decodeCheckpoint([]byte(value))
		require.ErrorContains(t, err, why, value)
	}
}

func TestParseRecordKey(t *testing.T) {
	for key, want := range map[string]recordKey{
		"link/a":            {Kind: kindLink, Name: "a"},
		"mirror/a.b":        {Kind: kindMirror, Name: "a.b"},
		"timeline/a/0":      {Kind: kindTimeline, Name: "a"},
		"timeline/a/131071": {Kind: kindTimeline, Name: "a", Partition: 131071},
		"checkpoint/a/1":    {Kind: kindCheckpoint, Name: "a", Partition: 1},
		"acls/a/63":         {Kind: kindACLs, Name: "a", Partition: 63},
		"offsets/a":         {Kind: kindOffsets, Name: "a"},
		"group/key":         {Kind: kindGroup, Name: "key"},
	} {
		got, err := parseRecordKey([]byte(key))
		require.NoError(t, err, key)
		require.Equal(t, want, got)
	}
	for _, key := range []string{"", "link", "else/a", strings.Repeat("x/", 1000)} {
		_, err := parseRecordKey([]byte(key))
		require.ErrorIs(t, err, errForeignKey, key)
	}
	for _, key := range []string{"link/", "link/a/b", "mirror/..", "timeline/a", "timeline/a/01", "timeline/a/-1", "timeline/a/131072", "timeline//0", "checkpoint/a", "mirror/a\x00", "acls/a", "acls/a/64", "acls/a/00", "acls//0"} {
		_, err := parseRecordKey([]byte(key))
		require.Error(t, err, key)
		require.NotErrorIs(t, err, errForeignKey, key)
	}
}

// FuzzRecord: reading any record of the state topic returns without a panic. A record that was read
// is written so that it reads the same.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"state":"ACTIVE","id":"x","unknown":[{}],"configs":{"a":"b"},"secrets":{"c":{"key_id":"k","data":"AA=="}}}`,
		`{"version":1,"state":"STOPPED","partitions":3,"topic_id":"AQAAAAAAAAAAAAAAAAAAAA","source_configs":{"a":null}}`,
		`{"version":1,"physical":1,"logical":2,"floor":3,"more":-0.0}`,
		`{"version":1,"physical":1,"logical":2,"floor":3,"end":{"physical":4,"logical":6},"hidden":[[1,2],[3,4]],"alignment":{"began":2}}`,
		`{"version":1,"link_id":"i","acls":[{"type":"TOPIC","name":"t","pattern":"LITERAL","principal":"User:a","host":"*","operation":"READ","permission":"ALLOW","run":"r","new":1}]}`,
		`{"version":1,"link":"i","groups":"AQAAAAAAAAACAAAAAAAAAAMAAAAAAAAA"}`,
		`{"version":1,"version":2}`, `{"version":1,"State":"ACTIVE"}`, `null`, `{`, ``,
	} {
		f.Add("mirror/a", []byte(seed))
		f.Add("timeline/a/5", []byte(seed))
		f.Add("checkpoint/a/5", []byte(seed))
		f.Add("acls/a/5", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		_, _ = parseRecordKey([]byte(key))
		if r, err := decodeLink(value); err == nil {
			stable(t, r, decodeLink)
			r.View("l", nil)
			r.View("l", testKey(t, 3))
		}
		if r, err := decodeMirror(value); err == nil {
			stable(t, r, decodeMirror)
		}
		if r, err := decodeTimeline(value); err == nil {
			stable(t, r, decodeTimeline)
		}
		if r, err := decodeCheckpoint(value); err == nil {
			stable(t, r, decodeCheckpoint)
		}
		if r, err := decodeACLs(value); err == nil && len(value) < maxACLsRecordBytes/2 {
			stable(t, r, decodeACLs)
		}
		if r, err := decodeOffsets(value); err == nil {
			stable(t, r, decodeOffsets)
			r.Prints()
		}
	})
}

func stable[R encoder](t *testing.T, r R, decode func([]byte) (R, error)) {
	first, err := r.encode()
	require.NoError(t, err)
	require.True(t, json.Valid(first))
	again, err := decode(first)
	require.NoError(t, err)
	second, err := again.encode()
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))
}

// FuzzApply: a store that is fed any records makes a State of them, and a snapshot for the router.
func FuzzApply(f *testing.F) {
	f.Add("mirror/a", []byte(`{"version":1,"stamp":3,"state":"ACTIVE","partitions":2}`), "timeline/a/1", []byte(`{"version":1,"physical":0,"logical":2,"floor":3}`))
	f.Add("link/a", []byte(`{"version":1,"state":"ACTIVE"}`), "link/a", []byte(nil))
	f.Add("timeline/a/99", []byte(`x`), "mirror/a", []byte(`x`))
	f.Add("timeline/a/0", []byte(`{"version":1,"physical":0,"logical":2,"floor":3,"hidden":[[0,4]],"end":{"physical":7,"logical":9}}`), "checkpoint/a/0", []byte(`{"version":1,"physical":5,"logical":9}`))
	f.Add("acls/a/0", []byte(`{"version":1,"link_id":"i","acls":[]}`), "acls/a/1", []byte(`x`))
	f.Fuzz(func(t *testing.T, key1 string, value1 []byte, key2 string, value2 []byte) {
		s := newStore(nil, testLogger(t))
		s.log = &caslog.Log{}
		for range 2 {
			s.apply(key1, value1, 1)
			s.apply(key2, value2, 2)
			state := s.State()
			snap := Snapshot(state)
			for topic, m := range state.Mirrors {
				require.NotNil(t, snap.Mirrors[topic])
				for p := range state.Timelines[topic] {
					require.NotNil(t, snap.Mirrors[topic].Timeline(int32(p)))
				}
				require.NotEmpty(t, m.State)
			}
			s.apply(key1, nil, 3)
		}
	})
}
