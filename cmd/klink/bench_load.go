package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"klink/bench/load"
)

// loadFlags hold the flags of `bench load`.
type loadFlags struct {
	load.Config
	rate, recordSize, batchSize string
	acks, compression           string
	partitions                  int32
	replication                 int16
	readFrom, readConfig, link  string
	csv                         string
}

// maxLoadRecord is as large a record as brokers accept if they are configured for large records.
const maxLoadRecord = 64 << 20

func (a *app) benchLoad() *cobra.Command {
	l := &loadFlags{partitions: -1, replication: -1}
	cmd := &cobra.Command{
		Use:   "load --topic TOPIC [--rate RATE] [--duration DURATION]",
		Short: "Put a steady load on a cluster, read it back, and verify it",
		Long: `Writes records to a topic at a fixed rate, through klink or directly to brokers, and reads them at the same time, from the same topic or
(with --read-from) from a mirror. It shows rates and latencies every second, and a summary at the end. It creates the topic if it does
not exist; in an existing topic only records of this run count. ^C ends the run early, with the summary; a second ^C ends it at once.

Latencies count from the moment when a record was due to be sent, so that a stall shows in every record that it delayed. "Acknowledged"
ends with the broker's response, "read" when a consumer has the record: with --read-from that is the end-to-end lag of the mirror. With
--rate 0 records are sent as fast as possible, and the latencies mostly show how long records wait in the producers' buffers (32 MiB).

The command verifies what it reads: offsets without holes, each record once, in order, in its partition, at the acknowledged offset, with
its checksum and timestamp. If a record is wrong, or could not be written, the exit code is 1. With --read-from, nobody else may write
transactions to the topic during the run, because their markers are holes in the mirror.`,
		Example: `  klink bench load --topic load --rate 20000 --duration 1m
  klink bench load --topic load --rate 50MB/s --record-size 10KiB --compression lz4 --payload json --csv load.csv
  klink bench load --topic load --cluster src --read-from dst --link east-west --rate 5000`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(cmd); err != nil {
				return err
			}
			return a.load(cmd.Context(), l)
		},
	}
	f := cmd.Flags()
	f.StringVar(&l.Topic, "topic", "", "`TOPIC` to write to; created if it does not exist")
	f.Int32Var(&l.partitions, "partitions", -1, "number `N` of partitions of a new topic (default: the cluster's)")
	f.Int16Var(&l.replication, "replication-factor", -1, "replication factor `N` of a new topic (default: the cluster's)")
	f.StringVar(&l.rate, "rate", "1000", "`RATE` of all producers: records/s (20000) or bytes/s (50MB/s, 50MiB/s); 0 = as fast as possible")
	f.StringVar(&l.recordSize, "record-size", "1024", fmt.Sprintf("`BYTES` of a record's value, at least %d", load.MinRecordSize))
	f.StringVar(&l.Payload, "payload", load.PayloadRandom, "`KIND` of payload: random (not compressible) or json")
	f.StringVar(&l.compression, "compression", "none", "`CODEC`: none, gzip, snappy, lz4 or zstd")
	f.DurationVar(&l.Duration, "duration", 30*time.Second, "how long to send, after the warm-up")
	f.DurationVar(&l.Warmup, "warmup", 0, "how long to send before rates and latencies count")
	f.StringVar(&l.acks, "acks", "all", "`ACKS` to wait for: all, 1 or 0 (with 1 or 0 a retry may write a record twice; with 0 records may be lost)")
	f.IntVar(&l.Producers, "producers", 1, "number `N` of producers; each has its own connections")
	f.IntVar(&l.Consumers, "consumers", 1, "number `N` of consumers, which share the partitions; 0 = only write, verify nothing")
	f.StringVar(&l.batchSize, "batch-size", "16384", "largest batch in `BYTES`, like batch.size of Kafka's producer")
	f.DurationVar(&l.Linger, "linger", 5*time.Millisecond, "how long a batch waits to be filled, like linger.ms of Kafka's producer")
	f.DurationVar(&l.DeliveryTimeout, "delivery-timeout", 2*time.Minute, "how long a record may wait to be acknowledged")
	f.DurationVar(&l.Drain, "drain-timeout", 30*time.Second, "how long to wait at the end for more records")
	f.StringVar(&l.readFrom, "read-from", "", "read from another `CLUSTER`: a context or HOST:PORT, such as the klink that has the mirror")
	f.StringVar(&l.readConfig, "read-from-config", "", "`FILE` of Java client properties for --read-from")
	f.StringVar(&l.link, "link", "", "`LINK` at --read-from to create the mirror with, if it does not exist")
	f.StringVar(&l.csv, "csv", "", "`FILE` to write one line per second to")
	for _, name := range []string{"partitions", "replication-factor"} {
		f.Lookup(name).DefValue = "0" // not shown in help
	}
	_ = cmd.RegisterFlagCompletionFunc("topic", a.completeTopics())
	_ = cmd.RegisterFlagCompletionFunc("read-from", a.completeContexts)
	for name, values := range map[string][]string{"payload": load.Payloads(), "compression": compressions(), "acks": {"all", "1", "0"}} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func compressions() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

// check turns the flags into a load.
func (l *loadFlags) check(cmd *cobra.Command) error {
	size, err := bytesValue(l.recordSize)
	if err != nil || size < load.MinRecordSize || size > maxLoadRecord {
		return usagef("--record-size: want a number of bytes from %d to %d, such as 1024 or 10KiB", load.MinRecordSize, maxLoadRecord)
	}
	l.RecordSize = int(size)
	batch, err := bytesValue(l.batchSize)
	if err != nil || batch < 1 || batch > maxLoadRecord {
		return usagef("--batch-size: want a number of bytes from 1 to %d, such as 16384 or 128KiB", maxLoadRecord)
	}
	l.BatchSize = int(batch)
	if l.Rate, err = rateValue(l.rate, size); err != nil {
		return usagef("--rate: invalid rate %q; give records per second (20000) or bytes per second (50MB/s, 50MiB/s)", l.rate)
	}
	codec, ok := codecs[l.compression]
	if !ok {
		return usagef("--compression: unknown codec %q; use one of %s", l.compression, strings.Join(compressions(), ", "))
	}
	l.Compression = codec
	switch l.acks {
	case "all", "-1":
		l.Acks = kgo.AllISRAcks()
	case "1":
		l.Acks = kgo.LeaderAck()
	case "0":
		l.Acks = kgo.NoAck()
	default:
		return usagef("--acks: unknown value %q; use all, 1 or 0", l.acks)
	}
	if !slices.Contains(load.Payloads(), l.Payload) {
		return usagef("--payload: unknown kind %q; use one of %s", l.Payload, strings.Join(load.Payloads(), ", "))
	}
	flags := cmd.Flags()
	for _, n := range []struct {
		name        string
		value, from int64
	}{
		{"partitions", int64(l.partitions), 1},
		{"replication-factor", int64(l.replication), 1},
		{"producers", int64(l.Producers), 1},
		{"consumers", int64(l.Consumers), 0},
		{"duration", int64(l.Duration), int64(time.Millisecond)},
		{"warmup", int64(l.Warmup), 0},
		{"linger", int64(l.Linger), 0},
		{"delivery-timeout", int64(l.DeliveryTimeout), int64(time.Second)},
		{"drain-timeout", int64(l.Drain), int64(time.Millisecond)},
	} {
		if flags.Changed(n.name) && n.value < n.from {
			return usagef("--%s: %s is too low", n.name, flags.Lookup(n.name).Value)
		}
	}
	switch {
	case l.Topic == "":
		return usagef("--topic is missing: give the topic to write to")
	case l.readFrom == "" && (l.link != "" || l.readConfig != ""):
		return usagef("--link and --read-from-config need --read-from")
	case l.readFrom != "" && l.Consumers == 0:
		return usagef("--read-from needs at least one consumer")
	}
	return nil
}

// reader returns an app for the cluster that is read from.
func (a *app) reader(l *loadFlags) (*app, error) {
	if l.readFrom == "" {
		return a, nil
	}
	r := *a
	r.cluster, r.bootstrap, r.commandConfig = l.readFrom, "", l.readConfig
	contexts, err := a.loadContexts()
	if err != nil {
		return nil, err
	}
	if _, known := contexts.Contexts[l.readFrom]; !known && strings.Contains(l.readFrom, ":") {
		r.cluster, r.bootstrap = "", l.readFrom
	}
	return &r, nil
}

func (a *app) load(ctx context.Context, l *loadFlags) (err error) {
	reader, err := a.reader(l)
	if err != nil {
		return err
	}
	var setup loadSetup
	if setup, err = a.prepareLoad(ctx, reader, l); err != nil {
		return err
	}
	l.Run = rand.Uint64()
	connect := func(a *app) func(...kgo.Opt) (*kgo.Client, error) {
		return func(opts ...kgo.Opt) (*kgo.Client, error) {
			cl, err := a.connect(opts...)
			if err != nil {
				return nil, err
			}
			return cl.Client, nil
		}
	}
	l.Write, l.Read = connect(a), connect(reader)
	var csv *load.CSV
	if l.csv != "" {
		f, err := os.Create(l.csv)
		if err != nil {
			return fmt.Errorf("--csv: %w", err)
		}
		defer f.Close()
		csv = load.NewCSV(f)
	}
	fmt.Fprintln(a.err, setup.text(l))
	p := newProgress(a.stderr)
	l.OnSecond = func(s load.Second) {
		if csv != nil {
			csv.Second(s)
		}
		p.show(secondText(s, l.Consumers > 0, p.width > 0 && p.width < wideEnough), time.Now())
	}
	result, err := load.Run(ctx, l.Config)
	p.clear()
	var refusal *load.Refused
	if errors.As(err, &refusal) {
		if cl, connectErr := a.connect(); connectErr == nil {
			defer cl.Close()
			err = refused(ctx, cl, refusal.Record, refusal.Err)
		}
	}
	if result != nil && (err == nil || result.Acked > 0) {
		err = errors.Join(err, a.showLoad(setup, l, result))
	}
	if csv != nil && csv.Err() != nil {
		err = errors.Join(err, fmt.Errorf("--csv: %w", csv.Err()))
	}
	return err
}

// loadSetup describes the topic and the clusters of a load.
type loadSetup struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Created    bool   `json:"created"`
	WriteTo    string `json:"write_to"`
	ReadFrom   string `json:"read_from"`
	Mirror     bool   `json:"mirror"` // the load is read from another cluster than it is written to
}

// prepareLoad creates the topic and its mirror if they do not exist, and finds the offsets at which
// the records of this run begin.
func (a *app) prepareLoad(ctx context.Context, reader *app, l *loadFlags) (s loadSetup, err error) {
	s = loadSetup{Topic: l.Topic, Mirror: reader != a}
	err = a.withCluster(func(cl *cluster, adm *kadm.Client) error {
		s.WriteTo, s.ReadFrom = cl.address, cl.address
		s.Created, err = l.ensureTopic(ctx, cl, adm)
		if err != nil {
			return err
		}
		l.Fresh = s.Created
		return within(ctx, readyWait, func(ctx context.Context) error {
			if l.Starts, err = endOffsets(ctx, cl, adm, l.Topic); s.Created {
				clear(l.Starts) // also read what others have written since
			}
			return err
		})
	})
	if err != nil {
		return s, err
	}
	s.Partitions = len(l.Starts)
	if l.partitions > 0 && s.Partitions != int(l.partitions) {
		return s, fmt.Errorf("topic %q exists with %d partitions: omit --partitions, or use another topic", l.Topic, s.Partitions)
	}
	if !s.Mirror {
		return s, nil
	}
	return s, reader.withCluster(func(cl *cluster, adm *kadm.Client) error {
		s.ReadFrom = cl.address
		return l.awaitMirror(ctx, cl, adm)
	})
}

const (
	// readyWait is how long a new topic may take to become usable.
	readyWait = 30 * time.Second
	// mirrorWait is how long a mirror may take to catch up with what its source had before the load
	// began.
	mirrorWait = 5 * time.Minute
)

// ensureTopic creates the topic if it does not exist.
func (l *loadFlags) ensureTopic(ctx context.Context, cl *cluster, adm *kadm.Client) (created bool, err error) {
	topics, err := adm.ListTopicsWithInternal(ctx, l.Topic)
	if err != nil {
		return false, cl.fail(err)
	}
	t, ok := topics[l.Topic]
	switch {
	case ok && t.Err == nil && internalTopic(t):
		return false, fmt.Errorf("topic %q belongs to Kafka or klink: use another topic", l.Topic)
	case ok && t.Err == nil:
		return false, nil
	case ok && !errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return false, prefixed("topic", l.Topic, t.Err)
	}
	if err := createTopic(ctx, cl, l.Topic, l.partitions, l.replication, nil, false); err != nil {
		return false, prefixed("topic", l.Topic, err)
	}
	return true, nil
}

// awaitMirror waits until the topic that is read has everything that the written one had. It
// creates the mirror if the flags ask for it.
func (l *loadFlags) awaitMirror(ctx context.Context, cl *cluster, adm *kadm.Client) error {
	topics, err := adm.ListTopics(ctx, l.Topic)
	if err != nil {
		return cl.fail(err)
	}
	if t, ok := topics[l.Topic]; !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
		if l.link == "" {
			return fmt.Errorf("topic %q does not exist at %s: mirror it there with `klink topic create %s --link LINK --mirror-topic %s`, or give the link with --link",
				l.Topic, cl.address, l.Topic, l.Topic)
		}
		if err := createMirror(ctx, cl, l.Topic, l.link, l.Topic, -1, -1, nil, false); err != nil {
			return prefixed("topic", l.Topic, err)
		}
	}
	return within(ctx, mirrorWait, func(ctx context.Context) error {
		ends, err := endOffsets(ctx, cl, adm, l.Topic)
		if err != nil {
			return err
		}
		if len(ends) != len(l.Starts) {
			return fmt.Errorf("topic %q has %d partitions at %s, but %d where it is written: it is not a mirror", l.Topic, len(ends), cl.address, len(l.Starts))
		}
		for p, end := range ends {
			if end < l.Starts[p] {
				return fmt.Errorf("topic %q partition %d ends at offset %d at %s, but at %d where it is written: see `klink mirror describe %s`", l.Topic, p, end, cl.address, l.Starts[p], l.Topic)
			}
		}
		return nil
	})
}

// endOffsets returns the end offsets of all partitions, from partition 0 on.
func endOffsets(ctx context.Context, cl *cluster, adm *kadm.Client, topic string) ([]int64, error) {
	t, err := topicDetail(ctx, cl, adm, topic)
	if err != nil {
		return nil, err
	}
	listed, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, cl.fail(err)
	}
	ends := make([]int64, len(t.Partitions))
	for p := range ends {
		o, ok := listed.Lookup(topic, int32(p))
		if !ok {
			return nil, fmt.Errorf("topic %q has no partition %d at %s", topic, p, cl.address)
		}
		if o.Err != nil {
			return nil, fmt.Errorf("topic %q partition %d: %w", topic, p, o.Err)
		}
		ends[p] = o.Offset
	}
	return ends, nil
}

// within retries until try succeeds or the time is over; it then returns the last error.
func within(ctx context.Context, d time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(50 * time.Millisecond):
		}
	}
}
