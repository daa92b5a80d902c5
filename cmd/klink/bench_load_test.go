package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"klink/bench/load"
)

// TestLoadThroughKlink writes and reads through klink, on embedded clusters. The first run creates
// the topic, the second uses it again.
func TestLoadThroughKlink(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.dir, "load.csv")
	out, progress, code := w.run("", "bench", "load", "--topic", "l", "--partitions", "3", "--rate", "500", "--duration", "1s", "--record-size", "100", "--csv", file)
	require.Equal(t, exitOK, code, out+progress)
	require.Contains(t, progress, `Writing to topic "l" (3 partitions) at `+w.klink+", 500 records/s (0.1 MB/s) for 1s.")
	require.True(t, contains(out, "Acknowledged", "Verified: all ", "acknowledged records were read once", "Topic \"l\" was created"), out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "at_s,"))
	require.True(t, contains(string(text), ",run,", ",drain,"), string(text))

	out = w.must("", "bench", "load", "--topic", "l", "--rate", "100kB/s", "--duration", "500ms", "--record-size", "1kB", "--producers", "2", "--acks", "1", "--compression", "zstd", "-o", "json")
	var j loadJSON
	require.NoError(t, json.Unmarshal([]byte(out), &j))
	require.True(t, j.Verified, out)
	require.False(t, j.Created)
	require.Equal(t, 3, j.Partitions)
	require.Equal(t, int64(50), j.Read+j.Unsent)
	require.Zero(t, j.Verification.Foreign, "the records before are not read")

	require.Contains(t, w.refused("", "bench", "load", "--topic", "l", "--partitions", "4"), `topic "l" exists with 3 partitions`)
	require.Contains(t, w.refused("", "bench", "load", "--topic", "_klink_state"), "belongs to Kafka or klink")
	require.Contains(t, w.refused("", "bench", "load", "--topic", "l", "--read-from", "src"), `topic "l" does not exist at `+w.source)
}

// TestLoadOfMirror writes at the source and reads the mirror, which the command creates. A load
// directly on the mirror is refused.
func TestLoadOfMirror(t *testing.T) {
	w := newWorld(t)
	w.must("", "link", "create", "east", "--config-file", "source.config")
	out := w.must("", "bench", "load", "--topic", "l", "--partitions", "2", "--cluster", "src", "--read-from", "dst", "--link", "east", "--rate", "500", "--duration", "1s", "-o", "json")
	var j loadJSON
	require.NoError(t, json.Unmarshal([]byte(out), &j))
	require.True(t, j.Verified, out)
	require.True(t, j.Mirror)
	require.Equal(t, w.klink, j.ReadFrom)
	require.Equal(t, j.Acked, j.Read)
	require.Equal(t, int64(500), j.Read+j.Unsent)
	require.Positive(t, j.EndToEnd.P50)

	out = w.must("", "bench", "load", "--topic", "l", "--cluster", "src", "--read-from", w.klink, "--rate", "200", "--duration", "500ms")
	require.Contains(t, out, "Read from "+w.klink)
	require.Contains(t, w.refused("", "bench", "load", "--topic", "l", "--duration", "1m"), "Cannot append records to read-only mirror topic 'l'")
}

// TestLoadFindsDamage: the command fails if another writer has damaged the records.
func TestLoadFindsDamage(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() { // a record that is not the run's, once the topic is there
		for ctx.Err() == nil {
			if _, _, code := w.run("not of this run", "topic", "produce", "l"); code == exitOK {
				return
			}
		}
	}()
	out, failure, code := w.runContext(ctx, nil, "bench", "load", "--topic", "l", "--partitions", "1", "--rate", "200", "--duration", "3s")
	require.Equal(t, exitError, code, out+failure)
	require.True(t, contains(out, "What was read differs from what was written: unknown 1.", "unknown: partition 0 offset ", "the record is not one that this run has written"), out)
	require.Contains(t, failure, "Error: what was read differs from what was written")
}

func TestLoadInterrupted(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	out, failure, code := w.runContext(ctx, nil, "bench", "load", "--topic", "l", "--duration", "1h")
	require.Equal(t, exitOK, code, out+failure)
	require.True(t, contains(out, "Interrupted after ", "Verified: all "), out)
}

func TestLoadUsage(t *testing.T) {
	for args, problem := range map[string]string{
		"":                                               "--topic is missing",
		"--topic l --rate fast":                          "--rate: invalid rate \"fast\"",
		"--topic l --rate -1":                            "--rate: invalid rate \"-1\"",
		"--topic l --record-size 39":                     "--record-size: want a number of bytes from 40",
		"--topic l --record-size 1.5":                    "--record-size: want a number of bytes from 40",
		"--topic l --batch-size 0":                       "--batch-size: want",
		"--topic l --compression lzma":                   "--compression: unknown codec \"lzma\"",
		"--topic l --acks 2":                             "--acks: unknown value \"2\"",
		"--topic l --payload xml":                        "--payload: unknown kind \"xml\"",
		"--topic l --producers 0":                        "--producers: 0 is too low",
		"--topic l --partitions 0":                       "--partitions: 0 is too low",
		"--topic l --duration 0s":                        "--duration: 0s is too low",
		"--topic l --link east":                          "need --read-from",
		"--topic l --read-from dst --consumers 0":        "--read-from needs at least one consumer",
		"--topic l --bootstrap-server 127.0.0.1:1 extra": "unexpected argument \"extra\"",
	} {
		var out, failure bytes.Buffer
		a := &app{out: &out, err: &failure, configDir: t.TempDir()}
		require.Equal(t, exitUsage, a.run(t.Context(), append([]string{"bench", "load"}, strings.Fields(args)...)), args)
		require.Contains(t, failure.String(), problem, args)
	}
}

func TestLoadValues(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "20000": 20000, "2.5": 2.5, "1MB/s": 1000, "1000kB": 1000, "1KiB/s": 1.024, "100/s": 100, "500 MB/s": 500000} {
		got, err := rateValue(text, 1000)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-9, text)
	}
	for _, text := range []string{"", "x", "-1", "1XB", "MB", "NaN", "1e30", "Inf"} {
		_, err := rateValue(text, 1000)
		require.Error(t, err, text)
	}
	require.Equal(t, []string{"0", "999", "1,000", "1,234,567", "-12,345"}, []string{thousands(0), thousands(999), thousands(1000), thousands(1234567), thousands(-12345)})
}

// TestLoadOutput: the summary for people and for programs, and the line of a second. If this fails,
// run it with -rewrite and check what has changed.
func TestLoadOutput(t *testing.T) {
	l := &loadFlags{compression: "lz4", acks: "all"}
	l.Topic, l.Rate, l.RecordSize, l.Payload, l.Producers, l.Consumers, l.Duration = "load", 20000, 1024, "json", 2, 3, time.Minute
	good := &load.Result{
		Seconds: 60.001, Sent: 1_200_000, Acked: 1_200_000, Read: 1_200_000, SentPerSecond: 19999.9, SentMB: 20.4799, AckedPerSecond: 19998, ReadPerSecond: 19990, ReadMB: 20.47, MaxLag: 1234,
		Ack:            load.Latency{Count: 1_200_000, Mean: 2.345, P50: 2.1, P95: 4.5, P99: 9.876, P999: 45.67, Max: 123.4},
		EndToEnd:       load.Latency{Count: 1_200_000, Mean: 5.5, P50: 5, P95: 8.25, P99: 19.9, P999: 99.99, Max: 234.5},
		AckPercentiles: []load.Percentile{{Percentile: 50, Ms: 2.1}}, EndPercentiles: []load.Percentile{{Percentile: 50, Ms: 5}},
		Verified: true, Verification: load.Verification{Records: 1_200_000, Damage: map[load.Damage]int64{}, First: []load.Finding{}}, Errors: []string{},
	}
	bad := *good
	bad.Interrupted, bad.Verified, bad.Unsent, bad.Failed, bad.Acked, bad.Read = true, false, 1500, 10, 1_199_990, 1_199_980
	bad.Verification = load.Verification{
		Records: 1_199_980, Foreign: 7, Unacknowledged: 10, Damage: map[load.Damage]int64{load.Missing: 10, load.Changed: 1},
		First: []load.Finding{
			{Damage: load.Changed, Partition: 2, Offset: 1234, Text: "the checksum does not match the record (1024 bytes)"},
			{Damage: load.Missing, Partition: 0, Offset: -1, Text: "records 5 to 14 were acknowledged but not read, of producer 1"},
		},
	}
	bad.Errors, bad.ErrorCount = []string{"write to partition 1: records have timed out before they were able to be produced"}, 10
	direct := loadSetup{Topic: "load", Partitions: 12, Created: true, WriteTo: "klink.example:9092", ReadFrom: "klink.example:9092"}
	mirror := loadSetup{Topic: "load", Partitions: 1, WriteTo: "src.example:9092", ReadFrom: "klink.example:9092", Mirror: true}

	show := func(output string, s loadSetup, r *load.Result) string {
		var out bytes.Buffer
		if err := (&app{out: &out, output: output}).showLoad(s, l, r); err != nil {
			return out.String() + "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ") + "\n"
		}
		return out.String()
	}
	second := load.Second{
		At: 61.0004, Length: 1, Phase: load.PhaseRun, Sent: 20000, SentBytes: 20_480_000, Acked: 19000, Read: 18000, ReadBytes: 18_432_000, Lag: 2000,
		Ack: load.Latency{P50: 2.1, P99: 9.876}, EndToEnd: load.Latency{P50: 12.34, P99: 345.6},
	}
	draining := second
	draining.Phase, draining.Failed = load.PhaseDrain, 5
	golden(t, "testdata/bench_load.txt", strings.Join([]string{
		direct.text(l), mirror.text(l), secondText(second, true, false), secondText(second, true, true), secondText(draining, true, false), secondText(second, false, false), "",
		show("table", direct, good), show("table", mirror, &bad),
	}, "\n"))
	golden(t, "testdata/bench_load.json", show("json", mirror, &bad))
}
