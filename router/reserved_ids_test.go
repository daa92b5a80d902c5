package router

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The fields that name groups and transactional ids, by kind; protocol's TestNamedIDsAreComplete
// keeps the table of APIs complete.
var (
	groupFields         = []string{"Group", "GroupID", "Groups", "GroupIDs", "CoordinatorKey", "CoordinatorKeys", "Resources"}
	transactionalFields = []string{"TransactionalID", "TransactionID", "TransactionalIDs"}
)

// naming returns a request of an API that names these ids in the fields of this kind, and other ids
// elsewhere. ok is false if the API has no such fields.
func naming(key, version int16, fields []string, ids ...string) (req kmsg.Request, ok bool) {
	req = kmsg.RequestForKey(key)
	req.SetVersion(version)
	v := reflect.ValueOf(req).Elem()
	for _, name := range append(groupFields[:len(groupFields):len(groupFields)], transactionalFields...) {
		f := v.FieldByName(name)
		if !f.IsValid() {
			continue
		}
		these := []string{"orders"}
		for _, wanted := range fields {
			if wanted == name {
				these, ok = ids, true
			}
		}
		setIDs(f, these)
	}
	// Something to be refused or done, where a response has results for each.
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		req.Acks, req.TimeoutMillis = 1, 1000
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: "ordinary", TopicID: hotID("ordinary"), Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: []byte("records")}}}}
	case *kmsg.OffsetCommitRequest:
		req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "ordinary", TopicID: hotID("ordinary"), Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3}, {Partition: 4}}}}
	case *kmsg.OffsetFetchRequest:
		req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "ordinary", Partitions: []int32{3, 4}}}
	case *kmsg.AddPartitionsToTxnRequest:
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "ordinary", Partitions: []int32{3, 4}}}
	case *kmsg.TxnOffsetCommitRequest:
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "ordinary", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: 3}, {Partition: 4}}}}
	case *kmsg.FindCoordinatorRequest:
		if len(fields) > 0 && fields[0] == transactionalFields[0] {
			req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = 1, ids[0], ids
			ok = version >= 1
		}
	}
	return req, ok
}

func setIDs(f reflect.Value, ids []string) {
	switch {
	case f.Kind() == reflect.String:
		f.SetString(ids[0])
	case f.Kind() == reflect.Pointer:
		f.Set(reflect.ValueOf(&ids[0]))
	case f.Type() == reflect.TypeFor[[]string]():
		f.Set(reflect.ValueOf(ids))
	default:
		f.Set(reflect.MakeSlice(f.Type(), len(ids), len(ids)))
		for i, id := range ids {
			e := f.Index(i)
			for _, name := range []string{"Group", "GroupID", "ResourceName"} {
				if n := e.FieldByName(name); n.IsValid() {
					n.SetString(id)
				}
			}
			if kind := e.FieldByName("ResourceType"); kind.IsValid() {
				kind.SetInt(int64(kmsg.ConfigResourceTypeGroupConfig))
			}
		}
	}
}

// refusedWith returns the error codes of a response: of its results, and of the whole response if
// that is set. (Only some versions have a code for the whole; kmsg leaves it 0 in the others.)
func refusedWith(resp kmsg.Response) (codes []int16) {
	v := reflect.ValueOf(resp).Elem()
	codes = errorCodes(v)
	if whole := v.FieldByName("ErrorCode"); whole.IsValid() && whole.Int() == 0 {
		i := slices.Index(codes, 0)
		codes = slices.Delete(codes, i, i+1)
	}
	return codes
}

// errorCodes are all error codes in a response.
func errorCodes(v reflect.Value) (codes []int16) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				codes = append(codes, int16(v.Field(i).Int()))
			} else if v.Type().Field(i).IsExported() {
				codes = append(codes, errorCodes(v.Field(i))...)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			codes = append(codes, errorCodes(v.Index(i))...)
		}
	}
	return codes
}

// No request of any API that names klink's group or transactional id reaches the broker. The answer
// is like an authorizer's, in the format of the API.
func TestKlinksIDsAreRefused(t *testing.T) {
	checked := 0
	for _, api := range protocol.APIs() {
		if !protocol.NamesIDs(api.Key) {
			continue
		}
		for v := api.Min; v <= api.Max; v++ {
			for _, c := range []struct {
				fields []string
				id     string
				want   *kerr.Error
			}{
				{groupFields, "_klink_tasks", kerr.GroupAuthorizationFailed},
				{groupFields, "_klink_", kerr.GroupAuthorizationFailed},
				{transactionalFields, "_klink_state", kerr.TransactionalIDAuthorizationFailed},
			} {
				req, ok := naming(api.Key, v, c.fields, c.id)
				if !ok || api.Key == 0 && v < 3 {
					continue
				}
				w := newHotWorld(t)
				resp, out := send[kmsg.Request, kmsg.Response](w, req, nil)
				if out.closed != nil {
					t.Errorf("%s v%d: closed: %v", api.Name, v, out.closed)
					continue
				}
				codes := refusedWith(resp)
				if per := partitionsOf(req, v); per > 0 && len(codes) < per {
					t.Errorf("%s v%d: %d results for %d partitions", api.Name, v, len(codes), per)
				}
				bad := len(codes) == 0
				for _, code := range codes {
					bad = bad || code != c.want.Code
				}
				if bad {
					t.Errorf("%s v%d of %s: %v, want %v: %+v", api.Name, v, c.id, codes, c.want.Code, resp)
				}
				checked++
			}
		}
	}
	if checked < 150 {
		t.Errorf("only %d requests were checked", checked)
	}
}

// partitionsOf is how many partitions of a request have results of their own.
func partitionsOf(req kmsg.Request, version int16) int {
	switch req.Key() {
	case 0:
		return 1
	case 8, 24, 28:
		return 2
	case 9:
		if version < 2 {
			return 2
		}
	}
	return 0
}

// A producer that asks for no response is disconnected.
func TestKlinksTransactionalIDWithoutAcks(t *testing.T) {
	w := newHotWorld(t)
	req, _ := naming(0, 9, transactionalFields, "_klink_state")
	req.(*kmsg.ProduceRequest).Acks = 0
	if _, out := send[kmsg.Request, kmsg.Response](w, req, nil); out.closed == nil || !strings.Contains(out.closed.Error(), "_klink_") {
		t.Errorf("%+v", out)
	}
}

// Other ids in the same request work as usual: each id has one result, the broker sees only the ids
// that are not klink's, and an API's own handler still does its work.
func TestOtherIDsBesideKlinks(t *testing.T) {
	checked := 0
	for _, api := range protocol.APIs() {
		if !protocol.NamesIDs(api.Key) {
			continue
		}
		for v := api.Min; v <= api.Max; v++ {
			h := protocol.RequestHeader{Key: api.Key, Version: v}
			fields, own := groupFields, "_klink_tasks"
			if api.Key == int16(kmsg.DescribeTransactions) {
				fields, own = transactionalFields, "_klink_state"
			}
			req, _ := naming(api.Key, v, fields, "orders", own, "payments")
			if !protocol.NamesSeveral(h) {
				continue
			}
			checked++
			w := newHotWorld(t)
			resp, out := send(w, req, func(asked kmsg.Request) kmsg.Response {
				if text := fmt.Sprintf("%+v", asked); strings.Contains(text, "_klink_") || !strings.Contains(text, "orders") || !strings.Contains(text, "payments") {
					t.Errorf("%s v%d: forwarded %s", api.Name, v, text)
				}
				return resultsFor(asked, "orders", "payments")
			})
			if out.closed != nil {
				t.Fatalf("%s v%d: %v", api.Name, v, out.closed)
			}
			refused := 0
			for _, code := range errorCodes(reflect.ValueOf(resp).Elem()) {
				if code == kerr.GroupAuthorizationFailed.Code || code == kerr.TransactionalIDAuthorizationFailed.Code {
					refused++
				}
			}
			text := fmt.Sprintf("%+v", resp)
			for _, name := range []string{"orders", "payments", own} {
				if !strings.Contains(text, name) {
					t.Errorf("%s v%d: nothing about %s: %s", api.Name, v, name, text)
				}
			}
			if refused != 1 {
				t.Errorf("%s v%d: %d are refused: %s", api.Name, v, refused, text)
			}
			if f, ok := resp.(*kmsg.FindCoordinatorResponse); ok && (f.Coordinators[1].Host != "klink" || f.Coordinators[2].Host != "klink") {
				t.Errorf("addresses are not klink's: %s", text)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d requests were checked", checked)
	}
}

// resultsFor is the response with a result for each id.
func resultsFor(req kmsg.Request, ids ...string) kmsg.Response {
	resp := req.ResponseKind()
	v := reflect.ValueOf(resp).Elem()
	for _, name := range []string{"Groups", "Coordinators", "TransactionStates", "Resources"} {
		f := v.FieldByName(name)
		if !f.IsValid() {
			continue
		}
		f.Set(reflect.MakeSlice(f.Type(), len(ids), len(ids)))
		for i, id := range ids {
			for _, field := range []string{"Group", "GroupID", "Key", "TransactionalID", "ResourceName"} {
				if n := f.Index(i).FieldByName(field); n.IsValid() {
					n.SetString(id)
				}
			}
			if n := f.Index(i).FieldByName("NodeID"); n.IsValid() {
				n.SetInt(1)
			}
		}
	}
	return resp
}

// A request too large for the event loop is refused off it. A request with more of klink's ids than
// klink answers closes the connection.
func TestManyOfKlinksIDs(t *testing.T) {
	w := newHotWorld(t)
	req := kmsg.NewPtrDescribeGroupsRequest()
	for i := range maxRefusedIDs {
		req.Groups = append(req.Groups, fmt.Sprintf("_klink_%0100d", i))
	}
	resp, out := send[*kmsg.DescribeGroupsRequest, *kmsg.DescribeGroupsResponse](w, req, nil)
	if out.closed != nil || len(resp.Groups) != maxRefusedIDs {
		t.Errorf("%d results: %v", len(resp.Groups), out.closed)
	}
	req.Groups = append(req.Groups, "_klink_x")
	if _, out := send[*kmsg.DescribeGroupsRequest, *kmsg.DescribeGroupsResponse](w, req, nil); out.closed == nil {
		t.Error("the connection is not closed")
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group = "_klink_tasks"
	topic := kmsg.OffsetCommitRequestTopic{Topic: "ordinary", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, maxRefusedPartitions)}
	commit.Topics = append(commit.Topics, topic)
	if _, out := send[*kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse](w, commit, nil); out.closed == nil {
		t.Error("the connection is not closed")
	}
}

// A client whose login is not proven learns nothing about what klink refuses.
func TestKlinksIDsBeforeTheLogin(t *testing.T) {
	for _, api := range protocol.APIs() {
		if !protocol.NamesIDs(api.Key) {
			continue
		}
		req, ok := naming(api.Key, api.Max, groupFields, "_klink_tasks")
		if !ok {
			continue
		}
		w := newHotWorld(t)
		w.proxy.session = w.router.NewSession(Client{Broker: 1})
		w.proxy.broker = func([]byte) []byte { return nil } // no login, so it hangs up
		if out := w.proxy.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req)); out.answer != nil {
			t.Errorf("%s: answered %x", api.Name, out.answer)
		}
	}
}

// The requests that members of groups and transactional producers send all the time are looked at
// without an allocation.
func TestGuardDoesNotAllocate(t *testing.T) {
	for _, key := range []int16{0, 8, 9, 11, 12, 14, 24, 26, 28, 68, 78} {
		api, _ := protocol.Supported(key)
		for v := api.Min; v <= api.Max; v++ {
			req, _ := naming(key, v, nil)
			frame := protocol.AppendRequest(nil, protocol.RequestHeader{ClientID: []byte("tester")}, req)
			h, err := protocol.ParseRequestHeader(frame)
			if err != nil {
				t.Fatal(err)
			}
			handle := *handlerSlot(key)
			given := bytes.Clone(frame)
			if n := testing.AllocsPerRun(100, func() {
				if got := guardIDs(h, frame, handle); (got == nil) != (handle == nil) {
					t.Fatal("another handler")
				}
			}); n != 0 || !bytes.Equal(frame, given) {
				t.Errorf("%s v%d: %v allocations", api.Name, v, n)
			}
		}
	}
}
