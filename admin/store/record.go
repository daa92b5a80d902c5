package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"klink/admin/model"
	"klink/internal/jsonbound"
)

// Records of the state topic. Keys are group/key, link/NAME, offsets/LINK, acls/LINK/BUCKET,
// mirror/TOPIC, timeline/TOPIC/PARTITION, checkpoint/TOPIC/PARTITION and instance/ID; none of the
// names can contain a slash. Values are JSON objects with a version; null (a tombstone) deletes.
// Fields that this version does not know survive when it changes a record, so that two versions of
// klink can work on one state topic.

// RecordVersion is the version of records that this klink writes, and the highest that it reads. A
// field that older versions may ignore does not raise it.
const RecordVersion = 1

// Bounds on what is read from the state topic. A principal that may write to the topic decides what
// is in it, and must neither stop klink nor make it allocate without bound. klink checks
// recordLimits before it decodes a value. A record that exceeds a bound counts as one that cannot
// be read; see Store.
const (
	maxRecordBytes = 4 << 20
	maxRecordDepth = 16
	// MaxPartitions bounds the partitions of one topic.
	MaxPartitions = 1 << 17
	// maxStatePartitions bounds the partitions of all mirrors together. The number in its record
	// decides how much memory a mirror costs.
	maxStatePartitions = 1 << 21
)

// recordLimits returns the bounds for records of a kind. A record has some thousands of JSON values
// at most, except one that holds remembered ACLs.
func recordLimits(kind recordKind) jsonbound.Limits {
	l := jsonbound.Limits{Bytes: maxRecordBytes, Depth: maxRecordDepth, Values: 1 << 14}
	if kind == kindACLs {
		l.Values = 1 << 18
	}
	return l
}

type recordKind string

const (
	kindLink       recordKind = "link"
	kindMirror     recordKind = "mirror"
	kindTimeline   recordKind = "timeline"
	kindCheckpoint recordKind = "checkpoint"
	kindOffsets    recordKind = "offsets"
	kindACLs       recordKind = "acls"
	kindInstance   recordKind = "instance"
	kindGroup      recordKind = "group"
)

// recordKey is a parsed key.
type recordKey struct {
	Kind      recordKind
	Name      string // link or topic
	Partition int32  // of a timeline or checkpoint; the bucket of ACLs
}

func linkKey(name string) string    { return "link/" + name }
func instanceKey(id string) string  { return "instance/" + id }
func offsetsKey(link string) string { return "offsets/" + link }
func mirrorKey(topic string) string { return "mirror/" + topic }
func timelineKey(t TimelineAt) string {
	return "timeline/" + t.Topic + "/" + strconv.Itoa(int(t.Partition))
}

func checkpointKey(t TimelineAt) string {
	return "checkpoint/" + t.Topic + "/" + strconv.Itoa(int(t.Partition))
}

func aclsKey(link string, bucket int32) string { return aclsPrefix(link) + strconv.Itoa(int(bucket)) }

// aclsPrefix returns the prefix of the keys of a link's ACLs; with "", of those of all links.
func aclsPrefix(link string) string {
	if link == "" {
		return "acls/"
	}
	return "acls/" + link + "/"
}

// TimelineAt names a timeline, or another record with a number in its key.
type TimelineAt struct {
	Topic     string
	Partition int32
}

// errForeignKey is returned for a key of a kind that this klink does not know: of a later klink, or
// not klink's at all. It is harmless.
var errForeignKey = errors.New("this version of klink does not know the key")

func parseRecordKey(key []byte) (recordKey, error) {
	kind, rest, ok := strings.Cut(string(key), "/")
	if !ok || len(key) > 1024 {
		return recordKey{}, errForeignKey
	}
	k := recordKey{Kind: recordKind(kind), Name: rest}
	switch k.Kind {
	case kindLink, kindMirror, kindOffsets, kindInstance:
	case kindGroup:
		if string(key) != groupKeyName {
			return recordKey{}, errForeignKey
		}
	case kindTimeline, kindCheckpoint:
		topic, number, ok := strings.Cut(rest, "/")
		partition, err := strconv.ParseUint(number, 10, 31)
		if !ok || err != nil || partition >= MaxPartitions || number != strconv.FormatUint(partition, 10) {
			return recordKey{}, fmt.Errorf("%q is not %s/TOPIC/PARTITION", key, kind)
		}
		k.Name, k.Partition = topic, int32(partition)
	case kindACLs:
		link, number, ok := strings.Cut(rest, "/")
		bucket, err := strconv.ParseUint(number, 10, 31)
		if !ok || err != nil || bucket >= aclBuckets || number != strconv.FormatUint(bucket, 10) {
			return recordKey{}, fmt.Errorf("%q is not acls/LINK/BUCKET", key)
		}
		k.Name, k.Partition = link, int32(bucket)
	default:
		return recordKey{}, errForeignKey
	}
	if err := model.CheckName(k.Name); err != nil {
		return recordKey{}, err
	}
	return k, nil
}

func errLaterVersion(version int) error {
	return fmt.Errorf("was written by a newer klink (version %d, this one reads up to %d): upgrade this klink", version, RecordVersion)
}

// unknownFields are the fields of a record that this version does not know.
type unknownFields map[string]json.RawMessage

// decodeRecord decodes a value into a struct with json tags; every field that is present must have
// the right type. It returns the fields that the struct does not have.
func decodeRecord(value []byte, into any) (unknownFields, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if fields == nil {
		return nil, errors.New("not a JSON object, but null")
	}
	var version int
	if err := json.Unmarshal(fields["version"], &version); err != nil || version < 1 {
		return nil, errors.New("has no version")
	}
	if version > RecordVersion {
		return nil, errLaterVersion(version)
	}
	// Only fields of exactly the right name count; encoding/json would also accept names in another
	// case.
	known := map[string]json.RawMessage{}
	for _, name := range jsonNames(into) {
		if v, ok := fields[name]; ok {
			known[name] = v
			delete(fields, name)
		}
	}
	exact, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(exact, into); err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return fields, nil
}

// encodeRecord encodes a struct and the unknown fields it was read with, sorted by name.
func encodeRecord(record any, unknown unknownFields) ([]byte, error) {
	value, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(value, &fields); err != nil {
		return nil, err
	}
	for name, v := range unknown {
		if _, ok := fields[name]; !ok {
			fields[name] = v
		}
	}
	fields["version"] = json.RawMessage(strconv.Itoa(RecordVersion))
	return json.Marshal(fields)
}

// jsonNames returns the names of a struct's fields in JSON, and "version".
func jsonNames(record any) []string {
	t := reflect.TypeOf(record).Elem()
	names := []string{"version"}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// TopicID is a topic id in JSON, in the form that Kafka's tools show (base64, URL alphabet, no
// padding).
type TopicID [16]byte

func (id TopicID) MarshalText() ([]byte, error) {
	if id == (TopicID{}) {
		return nil, nil
	}
	return base64.RawURLEncoding.AppendEncode(nil, id[:]), nil
}

func (id *TopicID) UnmarshalText(text []byte) error {
	*id = TopicID{}
	if len(text) == 0 {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(raw) != len(id) {
		return errors.New("not a topic id")
	}
	copy(id[:], raw)
	return nil
}

// NewID returns a random UUID (RFC 9562, version 4) in its usual form.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
