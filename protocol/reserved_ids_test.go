package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const reservedPrefix = "_klink_"

// idField finds the fields of kmsg's requests that name groups and transactional ids.
var idField = regexp.MustCompile(`^(Group|Groups|GroupID|GroupIDs|CoordinatorKeys?|Transaction(al)?IDs?)$`)

// looksLikeID finds more than that: a field of a new API with a name that idField does not know
// must not go unnoticed.
var looksLikeID = regexp.MustCompile(`(?i)group|transaction|txn|coordinator`)

// noIDs are fields that look like ids and are none, with the reason.
var noIDs = map[string]string{
	"AddPartitionsToTxn.Transactions":                                "v4 and later, which klink does not offer",
	"AddPartitionsToTxn.Transactions.TransactionalID":                "v4 and later, which klink does not offer",
	"OffsetFetch.Groups":                                             "structs, whose Group is the id",
	"DescribeShareGroupOffsets.Groups":                               "structs, whose GroupID is the id",
	"ListTransactions.TransactionalIDPattern":                        "a list tells names and states only",
	"SyncGroup.GroupAssignment":                                      "names members",
	"StreamsGroupHeartbeat.Topology.Subtopologies.CopartitionGroups": "sets of topics",
}

// eachField calls f for the fields of a struct type, at any depth, with their paths.
func eachField(t reflect.Type, path string, f func(path string, field reflect.StructField)) {
	for i := range t.NumField() {
		field := t.Field(i)
		p := path + "." + field.Name
		f(p, field)
		ft := field.Type
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && ft != reflect.TypeFor[kmsg.Tags]() {
			eachField(ft, p, f)
		}
	}
}

// Every field of every request that names a group or a transactional id is in the table, at its
// place, in all versions: set alone, it is found, and nothing else in the request is taken for one.
// What klink does not offer it need not know.
func TestNamedIDsAreComplete(t *testing.T) {
	found, excused := 0, map[string]bool{}
	for key := range int16(kmsg.MaxKey + 1) {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		api, offered := Supported(key)
		eachField(reflect.TypeOf(req).Elem(), kmsg.NameForKey(key), func(path string, field reflect.StructField) {
			switch {
			case noIDs[path] != "":
				excused[path] = true
				return
			case !idField.MatchString(field.Name):
				if looksLikeID.MatchString(field.Name) && mayNameSomething(field.Type) {
					t.Errorf("%s: is it an id? Put it into namedIDs, or say in noIDs why not", path)
				}
				return
			case !offered:
				return
			}
			present := 0
			for v := api.Min; v <= api.Max; v++ {
				kind := GroupID
				if strings.HasPrefix(field.Name, "Transaction") {
					kind = TransactionalID
				}
				if checkNamed(t, key, v, path, kind) {
					present++
				}
			}
			if present == 0 {
				t.Errorf("%s is in no version from %d to %d", path, api.Min, api.Max)
			}
			found++
		})
	}
	if found < 30 {
		t.Errorf("only %d fields with ids", found)
	}
	if len(excused) != len(noIDs) {
		t.Errorf("noIDs has fields that there are not: %v, found %v", noIDs, excused)
	}
	for key := range namedIDs {
		if _, offered := Supported(int16(key)); namedIDs[key] != nil && !offered {
			t.Errorf("key %d is in the table, and not offered", key)
		}
	}
}

// mayNameSomething is false for numbers and switches.
func mayNameSomething(t reflect.Type) bool {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.String || t.Kind() == reflect.Struct
}

// checkNamed says whether a version has the field at path, and checks that it is found there and
// nowhere else.
func checkNamed(t *testing.T, key, version int16, path string, kind IDKind) (present bool) {
	t.Helper()
	name := reservedPrefix + "x"
	with, without := kmsg.RequestForKey(key), kmsg.RequestForKey(key)
	for _, req := range []kmsg.Request{with, without} {
		setStrings(reflect.ValueOf(req).Elem(), kmsg.NameForKey(key), path, map[bool]string{true: name, false: "orders"}[req == with])
		req.SetVersion(version)
	}
	h, frame := requestFrame(t, with)
	_, plain := requestFrame(t, without)
	if got, err := ReservedID(plain, h, reservedPrefix); got != NoID || err != nil {
		t.Errorf("v%d: %v of a request whose %s is none of klink's: %v", version, got, path, err)
	}
	if bytes.Equal(frame, plain) {
		return false
	}
	if got, err := ReservedID(frame, h, reservedPrefix); got != kind || err != nil {
		t.Errorf("%s v%d: found %v, want %v: %v", path, version, got, kind, err)
	}
	for n := range len(frame) - h.Body {
		if got, err := ReservedID(frame[:h.Body+n], h, reservedPrefix); got == NoID && err == nil {
			t.Errorf("%s v%d: passes when cut to %d of %d bytes", path, version, h.Body+n, len(frame))
			break
		}
	}
	return true
}

// setStrings sets the strings at one path to name. It sets those that name other groups and
// transactional ids to "orders". It sets all others to a value that would be found if it were taken
// for an id.
func setStrings(v reflect.Value, at, path, name string) {
	for i := range v.NumField() {
		field, p := v.Field(i), at+"."+v.Type().Field(i).Name
		if !field.CanSet() || field.Type() == reflect.TypeFor[kmsg.Tags]() {
			continue
		}
		text := reservedPrefix + "not an id"
		switch {
		case p == path:
			text = name
		case idField.MatchString(v.Type().Field(i).Name) && noIDs[p] == "":
			text = "orders"
		}
		setString(field, text, p, path, name)
	}
}

func setString(v reflect.Value, text, at, path, name string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setString(v.Elem(), text, at, path, name)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(text))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			if i == 1 && at == path {
				text = name // both, so that the last is cut too
			}
			setString(v.Index(i), text, at, path, name)
		}
	case reflect.Struct:
		setStrings(v, at, path, name)
	}
}

// The configs of a group are those of a resource of that type; a topic of klink's is not a group.
func TestNamedConfigResources(t *testing.T) {
	for _, key := range []int16{32, 33, 44} {
		versions(t, key, func(t *testing.T, v int16) {
			for _, kind := range []kmsg.ConfigResourceType{kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeGroupConfig} {
				h, frame := requestFrame(t, configsRequest(key, v, resource{kind, "ordinary"}, resource{kind, "_klink_tasks"}))
				want := NoID
				if kind == kmsg.ConfigResourceTypeGroupConfig {
					want = GroupID
				}
				if got, err := ReservedID(frame, h, reservedPrefix); got != want || err != nil {
					t.Errorf("%v: %v, want %v: %v", kind, got, want, err)
				}
			}
		})
	}
}

type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

func configsRequest(key, version int16, resources ...resource) kmsg.Request {
	value := "v"
	req := kmsg.RequestForKey(key)
	for _, r := range resources {
		switch req := req.(type) {
		case *kmsg.DescribeConfigsRequest:
			req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: r.kind, ResourceName: r.name, ConfigNames: []string{"a", "b"}})
		case *kmsg.AlterConfigsRequest:
			req.Resources = append(req.Resources, kmsg.AlterConfigsRequestResource{ResourceType: r.kind, ResourceName: r.name, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "a", Value: &value}}})
		case *kmsg.IncrementalAlterConfigsRequest:
			req.Resources = append(req.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: r.kind, ResourceName: r.name, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "a", Value: &value}}})
		}
	}
	req.SetVersion(version)
	return req
}

// Coordinators of groups, of share groups and of transactions are told apart by the key type.
func TestNamedCoordinators(t *testing.T) {
	versions(t, 10, func(t *testing.T, v int16) {
		for kind, want := range map[int8]IDKind{0: GroupID, 1: TransactionalID, 2: GroupID} {
			if v == 0 {
				want = GroupID
			}
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = v, kind, "_klink_x", []string{"other", "_klink_x"}
			h, frame := requestFrame(t, req)
			if got, err := ReservedID(frame, h, reservedPrefix); got != want || err != nil {
				t.Errorf("type %d: %v, want %v: %v", kind, got, want, err)
			}
		}
	})
}

// The rest of a request is what kmsg encodes for the other elements, whatever else is in it.
func TestCutReservedIDs(t *testing.T) {
	cutters := 0
	for key := range namedIDs {
		if namedIDs[key] == nil {
			continue
		}
		versions(t, int16(key), func(t *testing.T, v int16) {
			r := rand.New(rand.NewPCG(uint64(key), uint64(v)))
			if !NamesSeveral(RequestHeader{Key: int16(key), Version: v}) {
				return
			}
			cutters++
			for range 200 {
				req := kmsg.RequestForKey(int16(key))
				fill(r, reflect.ValueOf(req).Elem(), "")
				req.SetVersion(v)
				want := map[string]bool{}
				strip := nameElements(r, reflect.ValueOf(req).Elem(), want)
				h, frame := requestFrame(t, req)
				strip()
				_, expected := requestFrame(t, req)
				given := bytes.Clone(frame)
				rest, left, cut, err := CutReservedIDs(frame, h, reservedPrefix, 100)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(rest, expected) || !bytes.Equal(frame, given) {
					t.Fatalf("left is\n%x, want\n%x", rest, expected)
				}
				if len(cut) != len(want) || got(t, rest, h) != left {
					t.Fatalf("%d cut, %d left: %v", len(cut), left, cut)
				}
				for _, id := range cut {
					if !want[id.Name] {
						t.Fatalf("%q was cut out", id.Name)
					}
				}
				if id, err := ReservedID(rest, h, reservedPrefix); id != NoID || err != nil {
					t.Fatalf("%v is left: %v", id, err)
				}
			}
		})
	}
	if cutters < 15 {
		t.Errorf("only %d versions with arrays of ids", cutters)
	}
}

// got counts the elements of the array of a request.
func got(t *testing.T, frame []byte, h RequestHeader) int {
	t.Helper()
	req := kmsg.RequestForKey(h.Key)
	req.SetVersion(h.Version)
	if err := req.ReadFrom(frame[h.Body:]); err != nil {
		t.Fatal(err)
	}
	return elements(reflect.ValueOf(req).Elem()).Len()
}

// elements is the array that names ids.
func elements(req reflect.Value) reflect.Value {
	for _, name := range []string{"Groups", "GroupIDs", "CoordinatorKeys", "TransactionalIDs", "Resources"} {
		if f := req.FieldByName(name); f.IsValid() {
			return f
		}
	}
	panic("no array of ids")
}

// nameElements gives about half of the elements a name of klink's, which it adds to named. strip
// takes them out again.
func nameElements(r *rand.Rand, req reflect.Value, named map[string]bool) (strip func()) {
	array := elements(req)
	keep := reflect.MakeSlice(array.Type(), 0, 4)
	for i := range array.Len() {
		e := array.Index(i)
		name := e
		if e.Kind() == reflect.Struct {
			for _, f := range []string{"Group", "GroupID", "ResourceName"} {
				if v := e.FieldByName(f); v.IsValid() {
					name = v
				}
			}
			if kind := e.FieldByName("ResourceType"); kind.IsValid() {
				kind.SetInt(32)
			}
		}
		if r.IntN(2) == 0 {
			name.SetString(fmt.Sprint("orders-", i))
			keep = reflect.Append(keep, e)
			continue
		}
		name.SetString(fmt.Sprint("_klink_", i))
		named[name.String()] = true
	}
	return func() { array.Set(keep) }
}

// A request that is hostile in its counts is refused or forwarded, in a time that its size decides;
// see also FuzzReservedID.
func TestNamedIDsAreBounded(t *testing.T) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	h, frame := requestFrame(t, req)
	for name, body := range map[string][]byte{
		"count bomb":         {0xff, 0xff, 0xff, 0xff, 0x0f, 2, 'x'},
		"tag bomb":           {2, 2, 'x', 1, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"name of 4 GB":       {2, 0xff, 0xff, 0xff, 0xff, 0x0f, 'x'},
		"partitions of 4 GB": {2, 2, 'x', 2, 2, 'y', 0xff, 0xff, 0xff, 0xff, 0x0f},
		"varint of 40 bits":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"nothing":            {},
	} {
		if _, err := ReservedID(append(slices.Clone(frame[:h.Body]), body...), h, reservedPrefix); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, _, err := CutReservedIDs(append(slices.Clone(frame[:h.Body]), body...), h, reservedPrefix, 10); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := kmsg.NewPtrDescribeGroupsRequest()
	for i := range maxNamingElements + 1 {
		many.Groups = append(many.Groups, []string{"a", "b"}[i%2])
	}
	h, frame = requestFrame(t, many)
	if _, err := ReservedID(frame, h, reservedPrefix); !errors.Is(err, ErrMalformed) {
		t.Errorf("more elements than are walked: %v", err)
	}
	many.Groups = nil
	for i := range 12 {
		many.Groups = append(many.Groups, fmt.Sprint("_klink_", i))
	}
	h, frame = requestFrame(t, many)
	if _, _, _, err := CutReservedIDs(frame, h, reservedPrefix, 10); !errors.Is(err, ErrMalformed) {
		t.Errorf("more reserved ids than are answered: %v", err)
	}
}

// Looking for ids costs no allocation: members of groups and transactional producers ask often.
func TestReservedIDDoesNotAllocate(t *testing.T) {
	for key := range namedIDs {
		if namedIDs[key] == nil {
			continue
		}
		req := kmsg.RequestForKey(int16(key))
		setStrings(reflect.ValueOf(req).Elem(), kmsg.NameForKey(int16(key)), "", "")
		api, _ := Supported(int16(key))
		req.SetVersion(api.Max)
		h, frame := requestFrame(t, req)
		if n := testing.AllocsPerRun(100, func() {
			if id, err := ReservedID(frame, h, reservedPrefix); id != NoID || err != nil {
				t.Fatal(id, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", api.Name, n)
		}
	}
}

// Results of klink's own stand in front of the broker's.
func TestAddResults(t *testing.T) {
	for key := range namedIDs {
		if namedIDs[key] == nil {
			continue
		}
		versions(t, int16(key), func(t *testing.T, v int16) {
			h := RequestHeader{Key: int16(key), Version: v}
			if !NamesSeveral(h) {
				return
			}
			r := rand.New(rand.NewPCG(uint64(key), uint64(v)))
			for range 50 {
				theirs, ours := kmsg.ResponseForKey(h.Key), kmsg.ResponseForKey(h.Key)
				for _, resp := range []kmsg.Response{theirs, ours} {
					fill(r, reflect.ValueOf(resp).Elem(), "")
					resp.SetVersion(v)
				}
				reflect.ValueOf(ours).Elem().FieldByName("UnknownTags").SetZero()
				a, b := results(reflect.ValueOf(ours).Elem()), results(reflect.ValueOf(theirs).Elem())
				h, frame := responseFrame(theirs)
				frame, err := AddResults(frame, h, ours, a.Len())
				if err != nil {
					t.Fatal(err)
				}
				b.Set(reflect.AppendSlice(a, b))
				if _, want := responseFrame(theirs); !bytes.Equal(frame, want) {
					t.Fatalf("got\n%x, want\n%x", frame, want)
				}
			}
		})
	}
	if _, err := AddResults([]byte{0, 0, 0, 4, 0, 0, 0, 1}, RequestHeader{Key: 42}, kmsg.NewPtrDeleteGroupsResponse(), 0); !errors.Is(err, ErrMalformed) {
		t.Errorf("a response without a body: %v", err)
	}
}

func results(resp reflect.Value) reflect.Value {
	for _, name := range []string{"Groups", "Coordinators", "TransactionStates", "Resources"} {
		if f := resp.FieldByName(name); f.IsValid() {
			return f
		}
	}
	panic("no array of results in " + resp.Type().String())
}

func FuzzReservedID(f *testing.F) {
	for key := range namedIDs {
		if api, ok := Supported(int16(key)); ok && namedIDs[key] != nil {
			for v := api.Min; v <= api.Max; v++ {
				req := kmsg.RequestForKey(api.Key)
				setStrings(reflect.ValueOf(req).Elem(), api.Name, "", "")
				req.SetVersion(v)
				_, frame := requestFrame(f, req)
				f.Add(frame)
			}
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRequestHeader(frame)
		if err != nil || h.Body < 0 {
			return
		}
		id, err := ReservedID(frame, h, reservedPrefix)
		if err != nil && id != NoID {
			t.Fatal(id, err)
		}
		if !NamesIDs(h.Key) || !NamesSeveral(h) || err != nil {
			return
		}
		rest, _, cut, err := CutReservedIDs(frame, h, reservedPrefix, 1000)
		if err != nil {
			return // behind the first id, which is all that ReservedID looks at
		}
		if (id != NoID) != (len(cut) > 0) {
			t.Fatalf("%v, but %d are cut", id, len(cut))
		}
		if again, err := ReservedID(rest, h, reservedPrefix); again != NoID || err != nil {
			t.Fatal(again, err)
		}
	})
}
