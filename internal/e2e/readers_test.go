package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// record is what a client was given, in a form that can be compared between clients.
type record struct {
	partition     int32
	offset        int64
	timestampType string // CreateTime or LogAppendTime
	timestamp     int64
	key, value    string // NULL for null
	headers       string // k:v,k:v
}

const null = "NULL"

func text(b []byte) string {
	if b == nil {
		return null
	}
	return string(b)
}

// reader reads a whole topic, up to the end offsets at the start, with one kind of client.
type reader struct {
	name string
	read func(t testing.TB, bootstrap, topic string, count int) []record
}

// readers are three clients that share no code.
func readers() []reader {
	return []reader{{"franz-go", readFranz}, {"librdkafka", readLibrdkafka}, {"java", readJava}}
}

func readFranz(t testing.TB, bootstrap, topic string, _ int) []record {
	t.Helper()
	return readFranzWith(t, topic, clientAt(bootstrap)...)
}

func readFranzWith(t testing.TB, topic string, opts ...kgo.Opt) []record {
	t.Helper()
	var out []record
	for _, r := range kafkatest.ReadAll(t, topic, opts...) {
		if r.Attrs.IsControl() {
			continue
		}
		out = append(out, asRecord(r))
	}
	return sorted(out)
}

// asRecord is a record of franz-go.
func asRecord(r *kgo.Record) record {
	rec := record{
		partition: r.Partition, offset: r.Offset, timestampType: "CreateTime",
		timestamp: r.Timestamp.UnixMilli(), key: text(r.Key), value: text(r.Value),
	}
	if r.Timestamp.IsZero() {
		rec.timestamp = -1 // of message format v0, which has none; Kafka's own clients say so
	}
	if r.Attrs.TimestampType() == 1 {
		rec.timestampType = "LogAppendTime"
	}
	var hs []string
	for _, h := range r.Headers {
		hs = append(hs, h.Key+":"+string(h.Value))
	}
	rec.headers = strings.Join(hs, ",")
	return rec
}

// librdkafkaBinary builds the reader of the librdkafka module once.
var librdkafkaBinary = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../clienttest/librdkafka")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(os.TempDir(), fmt.Sprintf("klink-librdkafka-%d", os.Getpid()))
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the librdkafka reader: %w\n%s", err, out)
	}
	return bin, nil
})

func librdkafka(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	bin, err := librdkafkaBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("librdkafka %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

func readLibrdkafka(t testing.TB, bootstrap, topic string, _ int) []record {
	t.Helper()
	return readLibrdkafkaWith(t, bootstrap, topic)
}

// readLibrdkafkaWith takes flags and settings of the reader.
func readLibrdkafkaWith(t testing.TB, bootstrap, topic string, args ...string) []record {
	t.Helper()
	var out []record
	for line := range strings.Lines(librdkafka(t, "", append(append([]string{"read", "-b", bootstrap, "-t", topic}, args...), librdkafkaAt(bootstrap)...)...)) {
		var r struct {
			Partition     *int32
			Offset        int64
			TimestampType int `json:"timestamp_type"`
			Timestamp     int64
			Key, Value    []byte
			Headers       [][2]string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if r.Partition == nil {
			continue // the watermarks
		}
		rec := record{
			partition: *r.Partition, offset: r.Offset, timestamp: r.Timestamp,
			timestampType: map[int]string{1: "CreateTime", 2: "LogAppendTime"}[r.TimestampType],
			key:           text(r.Key), value: text(r.Value),
		}
		if r.TimestampType == 0 {
			rec.timestamp, rec.timestampType = -1, "CreateTime" // message format v0: none
		}
		var hs []string
		for _, h := range r.Headers {
			var v []byte
			if err := json.Unmarshal([]byte(`"`+h[1]+`"`), &v); err != nil {
				t.Fatal(err)
			}
			hs = append(hs, h[0]+":"+string(v))
		}
		rec.headers = strings.Join(hs, ",")
		out = append(out, rec)
	}
	return sorted(out)
}

// readJava reads with Kafka's console consumer. It ends after count records: it has no notion of
// the end of a topic.
func readJava(t testing.TB, bootstrap, topic string, count int) []record {
	t.Helper()
	return readJavaWith(t, bootstrap, topic, count)
}

// readJavaWith takes further arguments of the console consumer.
func readJavaWith(t testing.TB, bootstrap, topic string, count int, args ...string) []record {
	t.Helper()
	out, err := kafkatest.JavaTool(t, "", kafkatest.ConsoleConsumer,
		javaArguments(t, bootstrap, topic, append(args, "--max-messages", strconv.Itoa(count), "--timeout-ms", "60000")...)...)
	if err != nil {
		t.Fatalf("console consumer: %v\n%s", err, out)
	}
	return javaRecords(out)
}

// javaArguments make the console consumer print what javaRecords takes, from the begin of a topic.
func javaArguments(t testing.TB, bootstrap, topic string, args ...string) []string {
	return append(append(args, javaAt(t, bootstrap)...),
		"--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning",
		"--formatter-property", "print.timestamp=true", "--formatter-property", "print.partition=true",
		"--formatter-property", "print.offset=true", "--formatter-property", "print.headers=true",
		"--formatter-property", "print.key=true", "--formatter-property", "null.literal="+null)
}

// javaRecords reads what the console consumer has printed in whole lines.
func javaRecords(out string) []record {
	var recs []record
	for line := range strings.Lines(out) { // of any length: a record is one
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 || !strings.HasSuffix(line, "\n") {
			continue // a log line, or not yet a whole one
		}
		var r record
		var ts string
		r.timestampType, ts, _ = strings.Cut(f[0], ":")
		r.timestamp, _ = strconv.ParseInt(ts, 10, 64)
		p, _ := strconv.Atoi(strings.TrimPrefix(f[1], "Partition:"))
		r.partition = int32(p)
		r.offset, _ = strconv.ParseInt(strings.TrimPrefix(f[2], "Offset:"), 10, 64)
		r.headers = strings.TrimPrefix(f[3], "NO_HEADERS")
		r.key, r.value = f[4], f[5]
		recs = append(recs, r)
	}
	return sorted(recs)
}

func sorted(rs []record) []record {
	slices.SortStableFunc(rs, func(a, b record) int {
		if a.partition != b.partition {
			return int(a.partition - b.partition)
		}
		return int(a.offset - b.offset)
	})
	return rs
}

// assertSame fails the test with the first differences.
func assertSame(t testing.TB, what string, want, got []record) {
	t.Helper()
	shown := 0
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			t.Errorf("%s: one record too many: %+v", what, got[i])
		case i >= len(got):
			t.Errorf("%s: missing %+v", what, want[i])
		case want[i] != got[i]:
			t.Errorf("%s: record %d differs\nwant %+v\ngot  %+v", what, i, want[i], got[i])
		default:
			continue
		}
		if shown++; shown == 5 {
			t.Fatalf("%s: want %d records, got %d", what, len(want), len(got))
		}
	}
}
