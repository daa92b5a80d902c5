package e2e

import (
	"context"
	"io"
	"time"

	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// attack is one kind of harm that a client may try. It ends by itself, within seconds or with ctx,
// and gives an error where klink did not let it go on, which is what most of them should come to.
type attack struct {
	name string
	do   func(ctx context.Context, a *attacker) error
}

// attacks are all kinds. docs/operations.md, "Threats", has a row for each group of them.
var attacks = []attack{
	// Without a login.
	{"an unfinished frame of 100 MiB", func(ctx context.Context, a *attacker) error {
		h, err := a.stranger(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		b := requestFrame(3, 8, false, make([]byte, 256<<10))
		b[0], b[1], b[2], b[3] = 0x06, 0x40, 0, 0
		if _, err := h.Write(b); err != nil {
			return err
		}
		_, err = h.read()
		return err
	}},
	{"a byte a second", func(ctx context.Context, a *attacker) error {
		h, err := a.stranger(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		return h.trickle(ctx, 1000, time.Second)
	}},
	{"silence", func(ctx context.Context, a *attacker) error {
		h, err := a.stranger(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		_, err = h.read()
		return err
	}},
	{"connections that go at once", func(ctx context.Context, a *attacker) error {
		for range 10 {
			h, err := a.stranger(ctx)
			if err != nil {
				return err
			}
			h.Close()
		}
		return nil
	}},
	{"random bytes", func(ctx context.Context, a *attacker) error {
		h, err := a.stranger(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		b := make([]byte, 1+a.IntN(64<<10))
		for i := range b {
			b[i] = byte(a.Uint32())
		}
		if _, err := h.Write(b); err != nil {
			return err
		}
		_, err = h.read()
		return err
	}},
	{"requests without a login", func(ctx context.Context, a *attacker) error {
		h, err := a.stranger(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = "PLAIN"
		if _, err := askHostile[*kmsg.SASLHandshakeResponse](h, hello, 1); err != nil {
			return err
		}
		resp, err := askHostile[*kmsg.ListOffsetsResponse](h, offsetsByTime(hostileMirror, 100), 5)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 {
					a.site.harm("a stranger was told offset %d of %s-%d", p.Offset, t.Topic, p.Partition)
				}
			}
		}
		return nil
	}},
	{"a wrong password", func(ctx context.Context, a *attacker) error {
		h, err := a.as(ctx, malloryUser, "guess", a.broker())
		if err == nil {
			h.Close()
			a.site.harm("a wrong password was taken")
		}
		return err
	}},
	{"bombs without a login", func(ctx context.Context, a *attacker) error { return a.bomb(ctx, a.stranger) }},

	// With a login.
	{"bombs", func(ctx context.Context, a *attacker) error { return a.bomb(ctx, a.mallory) }},
	{"an unfinished frame of a user", func(ctx context.Context, a *attacker) error {
		h, err := a.mallory(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		b := requestFrame(3, 8, false, make([]byte, 1<<20))
		b[0], b[1], b[2], b[3] = 0x06, 0x40, 0, 0
		if _, err := h.Write(b); err != nil {
			return err
		}
		_, err = h.read()
		return err
	}},
	{"klink's group", joinTasks},
	{"klink's transactional id", fenceState},
	{"klink's topics", readState},
	{"writes to a mirror", writeMirror},
	{"links without ALTER", alterLinks},
	{"topics and configs", alterTopics},
	{"offsets of a mirror, again and again", seekMirror},
	{"times of a mirror", func(ctx context.Context, a *attacker) error {
		h, err := a.mallory(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		for range 5 {
			if _, err := askHostile[*kmsg.ListOffsetsResponse](h, offsetsByTime(hostileMirror, 200), 5); err != nil {
				return err
			}
		}
		return nil
	}},
	{"unknown topic ids", unknownIDs},
	{"a follower's fetch", fetchAsFollower},
	{"a reader that does not read", stallReading},
	{"all topics", func(ctx context.Context, a *attacker) error {
		h, err := a.mallory(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		for range 10 {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = nil
			if _, err := askHostile[*kmsg.MetadataResponse](h, req, 9); err != nil {
				return err
			}
		}
		return nil
	}},
}

// bomb sends a bomb to a random API.
func (a *attacker) bomb(ctx context.Context, dial func(context.Context) (*hostile, error)) error {
	h, err := dial(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	api := a.site.apis[a.IntN(len(a.site.apis))]
	version := api.MinVersion + int16(a.IntN(int(api.MaxVersion-api.MinVersion)+1))
	flexible := flexibleRequest(api.ApiKey, version)
	kinds := bombs(flexible)
	if _, err := h.Write(requestFrame(api.ApiKey, version, flexible, kinds[a.IntN(len(kinds))])); err != nil {
		return err
	}
	_, err = h.read()
	return err
}

// flexibleRequest says whether requests of this key and version have tags.
func flexibleRequest(key, version int16) bool {
	if key >= linkapi.MinKey {
		return true
	}
	req := kmsg.RequestForKey(key)
	if req == nil {
		return false
	}
	req.SetVersion(version)
	return req.IsFlexible()
}

// offsetsByTime asks for n offsets of a topic's partitions by timestamp, all of them the same few
// partitions.
func offsetsByTime(topic string, n int) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for i := range n {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = int32(i%hostilePartitions), int64(1_600_000_000_000+i), -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// joinTasks tries to become an instance of klink.
func joinTasks(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = "_klink_tasks", "klink"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 10_000, 10_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "klink", []byte(`{"instance":"mallory","slots":[0,1,2,3,4,5,6,7]}`)
	join.Protocols = append(join.Protocols, p)
	joined, err := askHostile[*kmsg.JoinGroupResponse](h, join, 5)
	if err != nil {
		return err
	}
	if joined.ErrorCode == 0 || joined.MemberID != "" {
		a.site.harm("a client joined _klink_tasks: error code %d, member %q", joined.ErrorCode, joined.MemberID)
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group = "_klink_tasks"
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = hostileMirror
	t.Partitions = append(t.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
	commit.Topics = append(commit.Topics, t)
	committed, err := askHostile[*kmsg.OffsetCommitResponse](h, commit, 7)
	if err != nil {
		return err
	}
	for _, t := range committed.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 {
				a.site.harm("a client committed for _klink_tasks")
			}
		}
	}
	drop := kmsg.NewPtrDeleteGroupsRequest()
	drop.Groups = []string{"_klink_tasks"}
	dropped, err := askHostile[*kmsg.DeleteGroupsResponse](h, drop, 1)
	if err != nil {
		return err
	}
	for _, g := range dropped.Groups {
		if g.ErrorCode == 0 {
			a.site.harm("a client deleted _klink_tasks")
		}
	}
	return nil
}

// fenceState tries to fence the writer of the state topic.
func fenceState(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, id := range []string{"_klink_state", "klink-state"} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, 60_000
		resp, err := askHostile[*kmsg.InitProducerIDResponse](h, req, 3)
		if err != nil {
			return err
		}
		if resp.ErrorCode == 0 {
			a.site.harm("a client without rights initialised the transactional id %s", id)
		}
	}
	return nil
}

// readState tries to read the secrets of links.
func readState(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	resp, err := askHostile[*kmsg.FetchResponse](h, fetchOf("_klink_state", []int64{0}), 11)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 || len(p.RecordBatches) > 0 && hasText(p.RecordBatches) {
				a.site.harm("a client read the state topic")
			}
		}
	}
	return nil
}

// hasText says whether there is anything but zeros in b.
func hasText(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return true
		}
	}
	return false
}

// fetchOf fetches the partitions of a topic from offsets; the same few partitions again and again.
func fetchOf(topic string, offsets []int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 10, 1, 1, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	for i, offset := range offsets {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = int32(i%hostilePartitions), offset, 1, -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// seekMirror fetches random offsets of a mirror with holes, so that klink has to look for them.
func seekMirror(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	for range 3 {
		offsets := make([]int64, 500)
		for i := range offsets {
			offsets[i] = a.Int64N(2000)
		}
		if _, err := askHostile[*kmsg.FetchResponse](h, fetchOf(hostileMirror, offsets), 11); err != nil {
			return err
		}
		req := kmsg.NewPtrDeleteRecordsRequest()
		t := kmsg.NewDeleteRecordsRequestTopic()
		t.Topic = hostileMirror
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Offset = -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		deleted, err := askHostile[*kmsg.DeleteRecordsResponse](h, req, 1)
		if err != nil {
			return err
		}
		for _, t := range deleted.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 {
					a.site.harm("a client deleted records of a mirror")
				}
			}
		}
	}
	return nil
}

// writeMirror produces to a mirror, by name and without an answer.
func writeMirror(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, acks := range []int16{-1, 1, 0} {
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = acks, 1000
		t := kmsg.NewProduceRequestTopic()
		t.Topic = hostileMirror
		p := kmsg.NewProduceRequestTopicPartition()
		p.Records = oneRecordBatch("mine")
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		if acks == 0 {
			if err := h.send(req, 8); err != nil {
				return err
			}
			_, err := h.read() // the connection is closed
			return err
		}
		resp, err := askHostile[*kmsg.ProduceResponse](h, req, 8)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 {
					a.site.harm("a client wrote to a mirror")
				}
			}
		}
	}
	return nil
}

// alterLinks tries what takes ALTER on the cluster.
func alterLinks(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	value := "127.0.0.1:1"
	alter := &linkapi.AlterLinkConfigsRequest{ValidateOnly: a.IntN(2) == 0, TimeoutMs: 1000, Links: []linkapi.AlterLink{{
		Name: "east", Configs: []linkapi.AlterConfig{{Name: "bootstrap.servers", Value: &value}},
	}}}
	altered, err := askHostile[*linkapi.AlterLinkConfigsResponse](h, alter, 0)
	if err != nil {
		return err
	}
	for _, r := range altered.Results {
		if r.ErrorCode == 0 {
			a.site.harm("a client without ALTER altered a link")
		}
	}
	stop := &linkapi.AlterMirrorsRequest{TimeoutMs: 1000, Mirrors: []linkapi.AlterMirror{{Topic: hostileMirror, Op: linkapi.MirrorFailover}}}
	stopped, err := askHostile[*linkapi.AlterMirrorsResponse](h, stop, 0)
	if err != nil {
		return err
	}
	for _, r := range stopped.Results {
		if r.ErrorCode == 0 {
			a.site.harm("a client without ALTER stopped a mirror")
		}
	}
	return nil
}

// alterTopics tries to make, alter and delete what she may not.
func alterTopics(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	meta := kmsg.NewPtrMetadataRequest()
	meta.AllowAutoTopicCreation = true
	name := "_klink_evil"
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &name
	meta.Topics = append(meta.Topics, mt)
	if _, err := askHostile[*kmsg.MetadataResponse](h, meta, 8); err != nil {
		return err
	}
	east := "east"
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = 1000
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = "stolen", -1, -1
	cc := kmsg.NewCreateTopicsRequestTopicConfig()
	cc.Name, cc.Value = "mirror.link", &east
	ct.Configs = append(ct.Configs, cc)
	create.Topics = append(create.Topics, ct)
	created, err := askHostile[*kmsg.CreateTopicsResponse](h, create, 5)
	if err != nil {
		return err
	}
	for _, t := range created.Topics {
		if t.ErrorCode == 0 {
			a.site.harm("a client without rights created the mirror %s", t.Topic)
		}
	}
	drop := kmsg.NewPtrDeleteTopicsRequest()
	drop.TimeoutMillis = 1000
	drop.TopicNames = []string{hostileMirror, "_klink_state"}
	dropped, err := askHostile[*kmsg.DeleteTopicsResponse](h, drop, 3)
	if err != nil {
		return err
	}
	for _, t := range dropped.Topics {
		if t.ErrorCode == 0 {
			a.site.harm("a client without rights deleted a topic")
		}
	}
	return nil
}

// unknownIDs fetches by topic ids that do not exist.
func unknownIDs(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	for range 5 {
		req := fetchOf("", []int64{0})
		for i := range req.Topics[0].TopicID {
			req.Topics[0].TopicID[i] = byte(a.Uint32())
		}
		if _, err := askHostile[*kmsg.FetchResponse](h, req, 13); err != nil {
			return err
		}
	}
	return nil
}

// fetchAsFollower pretends to be a replica, which would be shown what is not committed.
func fetchAsFollower(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	req := fetchOf(hostileMirror, []int64{0})
	req.ReplicaID = int32(a.IntN(3))
	_, err = askHostile[*kmsg.FetchResponse](h, req, 11)
	return err
}

// stallReading asks for much, and reads nothing of it.
func stallReading(ctx context.Context, a *attacker) error {
	h, err := a.mallory(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	for range 4 {
		req := fetchOf("plain", []int64{0})
		req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
		if err := h.send(req, 11); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	_, err = io.CopyN(io.Discard, h, 1)
	return err
}
