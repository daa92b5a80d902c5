package linkapi

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// The schemas of docs/protocol.md are not illustrations: the tests read them, and encode by them as
// Kafka's flexible versions are defined, without the codec.

type schema struct {
	APIKey           int16 `json:"apiKey"`
	Type             string
	Name             string
	ValidVersions    string
	FlexibleVersions string
	Fields           []schemaField
}

type schemaField struct {
	Name             string
	Type             string
	Versions         string
	NullableVersions string
	About            string
	Fields           []schemaField
}

func readSchemas(t testing.TB) map[string]schema {
	t.Helper()
	doc, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	schemas := map[string]schema{}
	for _, block := range strings.Split(string(doc), "```json\n")[1:] {
		block, _, ok := strings.Cut(block, "```")
		require.True(t, ok)
		d := json.NewDecoder(strings.NewReader(block))
		d.DisallowUnknownFields()
		var s schema
		require.NoError(t, d.Decode(&s), "schema in docs/protocol.md: %s", block)
		schemas[s.Name] = s
	}
	return schemas
}

// message is a request or a response.
type message interface {
	Key() int16
	MaxVersion() int16
	SetVersion(int16)
	GetVersion() int16
	IsFlexible() bool
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// messages makes an empty one of every message.
func messages(t testing.TB) (all []message) {
	for _, a := range APIs() {
		req, ok := NewRequest(a.Key)
		require.True(t, ok)
		all = append(all, req, req.ResponseKind())
	}
	return all
}

func nameOf(m message) string { return reflect.TypeOf(m).Elem().Name() }

func TestDocumentedSchemas(t *testing.T) {
	schemas := readSchemas(t)
	for _, m := range messages(t) {
		name := nameOf(m)
		s, ok := schemas[name]
		require.True(t, ok, "%s is not in docs/protocol.md", name)
		delete(schemas, name)
		require.Equal(t, m.Key(), s.APIKey, name)
		require.Equal(t, "0", s.ValidVersions, name)
		require.Equal(t, "0+", s.FlexibleVersions, name)
		_, isRequest := m.(kmsg.Request)
		require.Equal(t, map[bool]string{true: "request", false: "response"}[isRequest], s.Type, name)
		fields := fieldsOf(reflect.TypeOf(m).Elem())
		require.Equal(t, "Version", fields[0].Name, name)
		compareFields(t, name, fields[1:], s.Fields)
	}
	require.Empty(t, schemas, "documented, but no message")
}

// TestDocumentedStates checks that every state, error and task that package model defines is in
// docs/protocol.md: they are strings to the protocol.
func TestDocumentedStates(t *testing.T) {
	model, err := os.ReadFile("../../admin/model/model.go")
	require.NoError(t, err)
	doc, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	names := regexp.MustCompile(`(?:LinkState|MirrorState|Error) += "([A-Z_]+)"`).FindAllSubmatch(model, -1)
	require.Greater(t, len(names), 20)
	for _, name := range names {
		require.Regexp(t, `\b`+string(name[1])+`\b`, string(doc))
	}
	files, err := filepath.Glob("../../admin/task*.go")
	require.NoError(t, err)
	files = append(files, "../../admin/model/task_status.go")
	states, tasks := 0, 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`TaskState = "([A-Z_]+)"`).FindAllSubmatch(text, -1) {
			require.Regexp(t, `(?m)^\| `+string(name[1])+` \|`, string(doc))
			states++
		}
		for _, name := range regexp.MustCompile(`&task\{\s*name: +"(\w+)"`).FindAllSubmatch(text, -1) {
			require.Regexp(t, `(?m)^\| `+string(name[1])+` \|`, string(doc))
			tasks++
		}
	}
	require.Equal(t, 4, states)
	require.NotZero(t, tasks)
}

// fieldsOf returns the fields of a struct, with those of embedded structs in their places.
func fieldsOf(typ reflect.Type) (fields []reflect.StructField) {
	for _, f := range reflect.VisibleFields(typ) {
		if !f.Anonymous {
			fields = append(fields, f)
		}
	}
	return fields
}

// compareFields checks that the documented fields are those of the struct, in the same order, of
// the same types.
func compareFields(t *testing.T, at string, got []reflect.StructField, fields []schemaField) {
	require.Equal(t, len(got), len(fields), at)
	for i, f := range fields {
		at, g := at+"."+f.Name, got[i]
		require.Equal(t, f.Name, g.Name, at)
		require.Equal(t, "0+", f.Versions, at)
		require.NotEmpty(t, f.About, at)
		want := g.Type.String()
		if g.Type.Kind() == reflect.Pointer {
			require.Equal(t, "0+", f.NullableVersions, at)
			want = g.Type.Elem().String()
		} else if f.NullableVersions != "" {
			require.Equal(t, "[]string", want, "%s: only strings and arrays of strings can be null", at)
		}
		require.Equal(t, strings.ReplaceAll(want, "linkapi.", ""), f.Type, at)
		if g.Type.Kind() == reflect.Slice && g.Type.Elem().Kind() == reflect.Struct {
			compareFields(t, at, fieldsOf(g.Type.Elem()), f.Fields)
		}
	}
}

// encode encodes v by its schema: KIP-482, with an empty tag section after each struct.
func encode(dst []byte, v reflect.Value, fields []schemaField) []byte {
	for _, f := range fields {
		dst = encodeField(dst, v.FieldByName(f.Name), f, f.Type)
	}
	return append(dst, 0)
}

func encodeField(dst []byte, v reflect.Value, f schemaField, typ string) []byte {
	if elem, ok := strings.CutPrefix(typ, "[]"); ok {
		if f.NullableVersions != "" && v.IsNil() {
			return append(dst, 0)
		}
		dst = binary.AppendUvarint(dst, uint64(v.Len())+1)
		for i := range v.Len() {
			if f.Fields != nil {
				dst = encode(dst, v.Index(i), f.Fields)
			} else {
				dst = encodeField(dst, v.Index(i), schemaField{}, elem)
			}
		}
		return dst
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return append(dst, 0)
		}
		v = v.Elem()
	}
	switch typ {
	case "bool":
		if v.Bool() {
			return append(dst, 1)
		}
		return append(dst, 0)
	case "int8":
		return append(dst, byte(v.Int()))
	case "int16":
		return binary.BigEndian.AppendUint16(dst, uint16(v.Int()))
	case "int32":
		return binary.BigEndian.AppendUint32(dst, uint32(v.Int()))
	case "int64":
		return binary.BigEndian.AppendUint64(dst, uint64(v.Int()))
	case "string":
		return append(binary.AppendUvarint(dst, uint64(v.Len())+1), v.String()...)
	}
	panic("unknown type " + typ)
}

// fill draws values for the fields of v.
func fill(t *rapid.T, v reflect.Value, fields []schemaField) {
	for _, f := range fields {
		fillField(t, v.FieldByName(f.Name), f)
	}
}

func fillField(t *rapid.T, v reflect.Value, f schemaField) {
	label := f.Name
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, label))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		lo := int64(-1) << (v.Type().Bits() - 1)
		v.SetInt(rapid.Int64Range(lo, -lo-1).Draw(t, label))
	case reflect.String:
		v.SetString(rapid.String().Draw(t, label))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, label+" is set") {
			v.Set(reflect.New(v.Type().Elem()))
			fillField(t, v.Elem(), f)
		}
	case reflect.Slice:
		// An empty array is read back as nil, but for one that can be null.
		n := rapid.IntRange(0, 3).Draw(t, label+" length")
		if nullable := f.NullableVersions != ""; n > 0 || nullable && rapid.Bool().Draw(t, label+" is set") {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range n {
			if f.Fields != nil {
				fill(t, v.Index(i), f.Fields)
			} else {
				fillField(t, v.Index(i), schemaField{Name: label})
			}
		}
	default:
		t.Fatalf("field %s of kind %s", label, v.Kind())
	}
}

func TestRoundTripBySchema(t *testing.T) {
	schemas := readSchemas(t)
	for _, m := range messages(t) {
		t.Run(nameOf(m), func(t *testing.T) {
			typ, fields := reflect.TypeOf(m).Elem(), schemas[nameOf(m)].Fields
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(typ)
				fill(t, v.Elem(), fields)
				sent := v.Interface().(message)
				wire := sent.AppendTo([]byte("before"))
				require.Equal(t, encode([]byte("before"), v.Elem(), fields), wire, "as the schema says")
				require.Equal(t, wire, sent.AppendTo([]byte("before")), "encoding twice is the same")

				// Fill the receiver with something else first: nothing of it may stay.
				got := reflect.New(typ)
				fill(t, got.Elem(), fields)
				received := got.Interface().(message)
				wire = wire[len("before"):]
				require.NoError(t, received.ReadFrom(wire))
				clear(wire) // strings are copies
				require.Equal(t, sent, received)
			})
		})
	}
}
