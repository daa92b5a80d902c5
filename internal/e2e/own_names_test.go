package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The names that instances of klink use at a destination.
const (
	klinkGroup         = "_klink_tasks"
	klinkTransactional = "_klink_state"
	klinkProtocol      = "klink-24-3"
)

// ownNames are fields of requests that name groups and transactional ids.
var ownNames = map[string]string{
	"Group": klinkGroup, "GroupID": klinkGroup, "Groups": klinkGroup, "GroupIDs": klinkGroup, "CoordinatorKey": klinkGroup, "CoordinatorKeys": klinkGroup, "Resources": klinkGroup,
	"TransactionalID": klinkTransactional, "TransactionID": klinkTransactional, "TransactionalIDs": klinkTransactional,
}

// naming is a request that names klink's group or transactional id, or both.
func namingKlink(key int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	v := reflect.ValueOf(req).Elem()
	for field, id := range ownNames {
		f := v.FieldByName(field)
		switch {
		case !f.IsValid():
		case f.Kind() == reflect.String:
			f.SetString(id)
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.ValueOf(&id))
		case f.Type() == reflect.TypeFor[[]string]():
			f.Set(reflect.ValueOf([]string{id}))
		default:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			for _, name := range []string{"Group", "GroupID", "ResourceName"} {
				if n := f.Index(0).FieldByName(name); n.IsValid() {
					n.SetString(id)
				}
			}
			if kind := f.Index(0).FieldByName("ResourceType"); kind.IsValid() {
				kind.SetInt(int64(kmsg.ConfigResourceTypeGroupConfig))
			}
		}
	}
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		req.Acks, req.TimeoutMillis = -1, 1000
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: "plain", Partitions: []kmsg.ProduceRequestTopicPartition{{}}}}
	case *kmsg.OffsetCommitRequest:
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "plain", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}
	case *kmsg.AddPartitionsToTxnRequest:
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "plain", Partitions: []int32{0}}}
	case *kmsg.TxnOffsetCommitRequest:
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "plain", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 1}}}}
	}
	return req
}

// codesIn are the error codes in a response that are not 0.
func codesIn(v reflect.Value) (codes []int16) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return codesIn(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" && v.Field(i).Int() != 0 {
				codes = append(codes, int16(v.Field(i).Int()))
			} else if v.Type().Field(i).IsExported() {
				codes = append(codes, codesIn(v.Field(i))...)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			codes = append(codes, codesIn(v.Index(i))...)
		}
	}
	return codes
}

// forgedJoin is a request to join klink's group with a claim of all slots, as klink's but for its
// proof.
func forgedJoin(id, protocol string, generation int32) *kmsg.JoinGroupRequest {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, []string{klinkGroup}
	m.UserData, _ = json.Marshal(map[string]any{"generation": generation, "proof": []byte("a proof that is none, of 32 bytes")})
	all := kmsg.ConsumerMemberMetadataOwnedPartition{Topic: klinkGroup}
	for slot := range int32(24) {
		all.Partitions = append(all.Partitions, slot)
	}
	m.OwnedPartitions = append(m.OwnedPartitions, all)
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = klinkGroup, id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 6000, 6000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: protocol, Metadata: m.AppendTo(nil)}}
	return req
}

// TestKlinksNamesThroughKlink: an ordinary client, through klink, cannot join klink's group, nor
// commit, delete, leave or describe there, nor take klink's transactional id, in any API that there
// is. Mirroring goes on, and mirrors are failed over, while it tries.
func TestKlinksNamesThroughKlink(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(source.Client(t)).CreateTopics(ctx, 2, 1, nil, "orders", "payments"); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(destination.Client(t)).CreateTopics(ctx, 1, 1, nil, "plain"); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	for _, topic := range []string{"orders", "payments"} {
		k.MustCLI(t, "topic", "create", topic, "--link", "east")
	}
	f := startFeed(t, source, "orders")
	cl := connect(t, k.Bootstrap(), kgo.MaxVersions(nil))
	if err := cl.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	var broker *kgo.Broker
	for _, b := range destination.Brokers() {
		broker = cl.Broker(b.ID())
	}

	// Every API by the table, in the highest version that the broker and klink have in common.
	checked := 0
	for _, api := range protocol.APIs() {
		if !protocol.NamesIDs(api.Key) {
			continue
		}
		req := namingKlink(api.Key)
		resp, err := broker.Request(ctx, req)
		if err != nil {
			t.Errorf("%s: %v", api.Name, err)
			continue
		}
		codes := codesIn(reflect.ValueOf(resp))
		foreign := slices.ContainsFunc(codes, func(code int16) bool {
			return code != kerr.GroupAuthorizationFailed.Code && code != kerr.TransactionalIDAuthorizationFailed.Code
		})
		if len(codes) == 0 || foreign {
			t.Errorf("%s v%d: %v", api.Name, resp.GetVersion(), codes)
		}
		checked++
	}
	if checked < 25 {
		t.Errorf("only %d APIs", checked)
	}

	// Two that try without an end, while the work goes on.
	trying, stop := context.WithCancel(ctx)
	var tries sync.WaitGroup
	var joined, taken int
	tries.Go(func() {
		for ; trying.Err() == nil; joined++ {
			resp, err := broker.Request(trying, forgedJoin("", klinkProtocol, math.MaxInt32))
			if trying.Err() == nil && (err != nil || resp.(*kmsg.JoinGroupResponse).ErrorCode != kerr.GroupAuthorizationFailed.Code) {
				t.Errorf("JoinGroup: %+v %v", resp, err)
				return
			}
		}
	})
	tries.Go(func() {
		for ; trying.Err() == nil; taken++ {
			req := kmsg.NewPtrInitProducerIDRequest()
			id := klinkTransactional
			req.TransactionalID, req.TransactionTimeoutMillis = &id, 60_000
			resp, err := broker.Request(trying, req)
			if trying.Err() == nil && (err != nil || resp.(*kmsg.InitProducerIDResponse).ErrorCode != kerr.TransactionalIDAuthorizationFailed.Code) {
				t.Errorf("InitProducerId: %+v %v", resp, err)
				return
			}
		}
	})
	f.awaitAcked(t, 500)
	k.MustCLI(t, "mirror", "failover", "payments")
	f.awaitAcked(t, 300)
	f.stop()
	awaitMirror(t, k, source, "orders")
	stop()
	tries.Wait()
	if joined < 20 || taken < 20 {
		t.Errorf("%d tries to join, %d to take the transactional id", joined, taken)
	}
	assertSame(t, "orders", readFranz(t, source.Bootstrap(), "orders", 0), readFranz(t, k.Bootstrap(), "orders", 0))

	// What is not klink's is served beside it.
	adm := kadm.NewClient(cl)
	if err := adm.CommitAllOffsets(ctx, "app", kadm.Offsets{"plain": {0: kadm.Offset{Topic: "plain", At: 0}}}); err != nil {
		t.Fatal(err)
	}
	both, err := adm.DescribeGroups(ctx, "app", klinkGroup)
	if err != nil && !errors.Is(err, kerr.GroupAuthorizationFailed) {
		var shards *kadm.ShardErrors
		if !errors.As(err, &shards) {
			t.Fatal(err)
		}
	}
	if both["app"].Err != nil || both["app"].State != "Empty" {
		t.Errorf("%+v", both["app"])
	}
	groups, err := adm.ListGroups(ctx)
	if err != nil || !slices.Contains(groups.Groups(), klinkGroup) || !slices.Contains(groups.Groups(), "app") {
		t.Errorf("groups: %v, %v", groups.Groups(), err)
	}
}

// TestStrangersInTheGroup: somebody who reaches the brokers joins klink's group there, as a member
// that claims all and as the leader that gives all to everybody, again and again. Mirrors go on,
// each partition with one writer, and what the intruder was given is nothing.
func TestStrangersInTheGroup(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(source.Client(t)).CreateTopics(ctx, 2, 1, nil, "orders", "payments"); err != nil {
		t.Fatal(err)
	}
	stranger := &groupStranger{cl: destination.Client(t, kgo.MaxVersions(nil))}
	stranger.start(t)
	kafkatest.WaitFor(t, time.Minute, "the stranger to lead", func() (bool, string) { _, leads, _ := stranger.seen(); return leads > 0, "" })
	all := startInstances(t, destination, 2)
	createLink(t, all[0], "east", source)
	var feeds []*feed
	for _, topic := range []string{"orders", "payments"} {
		all[0].MustCLI(t, "topic", "create", topic, "--link", "east")
		feeds = append(feeds, startFeed(t, source, topic))
	}
	all.awaitSpread(t)
	for _, f := range feeds {
		f.awaitAcked(t, 500)
	}
	before, _, _ := stranger.seen()
	kafkatest.WaitFor(t, time.Minute, "the stranger to come again", func() (bool, string) {
		joins, _, _ := stranger.seen()
		return joins > before+2, fmt.Sprint(joins)
	})
	for _, f := range feeds {
		f.awaitAcked(t, 300)
		f.stop()
	}
	for _, topic := range []string{"orders", "payments"} {
		awaitMirror(t, all[1], source, topic)
		assertSame(t, topic, readFranz(t, source.Bootstrap(), topic, 0), readFranz(t, all[1].Bootstrap(), topic, 0))
		if n, ok := all[0].sumOf(t, "klink_mirror_foreign_offsets_total", ""); ok && n != 0 {
			t.Errorf("%s: %v offsets are somebody else's", topic, n)
		}
	}
	if _, _, given := stranger.seen(); given != 0 {
		t.Errorf("the stranger was given %d assignments", given)
	}
	if log := all[0].Log(t) + all[1].Log(t); !strings.Contains(log, "not an instance of klink") {
		t.Error("nobody complains of the stranger")
	}
}

// TestUnownedIsShown: where somebody keeps klink's instances out of their group, no mirror is shown
// as ACTIVE. When he has gone, it is copied, and shown so.
func TestUnownedIsShown(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(context.Background(), 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	stranger := &groupStranger{cl: destination.Client(t, kgo.MaxVersions(nil)), protocol: "klink-24"}
	stop := stranger.start(t)
	kafkatest.WaitFor(t, time.Minute, "the stranger to join", func() (bool, string) { joins, _, _ := stranger.seen(); return joins > 0, "" })
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", "orders", "--link", "east")
	kafkatest.WaitFor(t, 2*time.Minute, "mirror list to tell", func() (bool, string) {
		list := k.MustCLI(t, "mirror", "list")
		return strings.Contains(list, "UNOWNED") && !strings.Contains(list, "ACTIVE"), list
	})
	if text := k.MustCLI(t, "mirror", "describe", "orders"); !strings.Contains(text, "NO_INSTANCE") || !strings.Contains(text, klinkGroup) {
		t.Error(text)
	}
	stop()
	awaitMirrorState(t, k, "orders", "ACTIVE", "")
}

// groupStranger is a member of klink's group, at the brokers, that is no klink.
type groupStranger struct {
	cl       *kgo.Client
	protocol string // "" = klink's
	mu       sync.Mutex
	joins    int
	leads    int
	given    int // assignments with slots, by others
}

func (s *groupStranger) seen() (joins, leads, given int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joins, s.leads, s.given
}

func (s *groupStranger) start(t *testing.T) (stop func()) {
	s.protocol = cmp.Or(s.protocol, klinkProtocol)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		id := ""
		for ctx.Err() == nil {
			id = s.turn(ctx, id)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(stop)
	return stop
}

func (s *groupStranger) turn(ctx context.Context, id string) string {
	joined, err := forgedJoin(id, s.protocol, math.MaxInt32).RequestWith(ctx, s.cl)
	if err != nil || joined.ErrorCode != 0 {
		if err == nil && errors.Is(kerr.ErrorForCode(joined.ErrorCode), kerr.MemberIDRequired) {
			return joined.MemberID
		}
		return ""
	}
	leads := joined.LeaderID == joined.MemberID
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID = klinkGroup, joined.Generation, joined.MemberID
	kind, protocol := "consumer", s.protocol
	sync.ProtocolType, sync.Protocol = &kind, &protocol
	a := kmsg.NewConsumerMemberAssignment()
	a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: klinkGroup}}
	for slot := range int32(24) {
		a.Topics[0].Partitions = append(a.Topics[0].Partitions, slot)
	}
	for _, m := range joined.Members {
		sync.GroupAssignment = append(sync.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: a.AppendTo(nil)})
	}
	synced, err := sync.RequestWith(ctx, s.cl)
	s.mu.Lock()
	s.joins++
	if leads {
		s.leads++
	} else if got := kmsg.NewConsumerMemberAssignment(); err == nil && got.ReadFrom(synced.MemberAssignment) == nil && len(got.Topics) > 0 {
		s.given++
	}
	s.mu.Unlock()
	for ctx.Err() == nil {
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.Generation, beat.MemberID = klinkGroup, joined.Generation, joined.MemberID
		resp, err := beat.RequestWith(ctx, s.cl)
		if err != nil || resp.ErrorCode != 0 {
			return ""
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return joined.MemberID
}
