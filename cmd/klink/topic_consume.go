package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumption holds the flags of `topic consume`.
type consumption struct {
	topic         string
	fromBeginning bool
	group         string
	partition     int32 // -1 = all
	offset        int64 // -1 = not given
	max           int   // 0 = no limit
	timeout       time.Duration

	printKey, printOffset, printPartition, printTimestamp bool
}

func (a *app) topicConsume() *cobra.Command {
	c := consumption{partition: -1, offset: -1}
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print the records of a topic, one per line",
		Long: `Prints the records of a topic, one per line. By default it prints new records as they come, until ^C.
With -o json each line is an object with all fields of a record.

On a terminal, control characters are shown in the form \u001b, and bytes that are not UTF-8 in the form \xff, because a record
could otherwise control the terminal. In a file or a pipe, keys and values are written unchanged.`,
		Example: `  klink topic consume orders --from-beginning
  klink topic consume orders --partition 2 --offset 1000 --max-messages 10 --print-offset`,
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: a.completeTopics(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.topic = args[0]
			flags := cmd.Flags()
			switch {
			case flags.Changed("partition") && c.partition < 0:
				return usagef("--partition: must be at least 0")
			case flags.Changed("offset") && c.offset < 0:
				return usagef("--offset: must be at least 0")
			case flags.Changed("offset") && c.partition < 0:
				return usagef("--offset needs --partition")
			case flags.Changed("offset") && c.fromBeginning:
				return usagef("--offset and --from-beginning cannot be used together")
			case c.group != "" && c.partition >= 0:
				return usagef("--group and --partition cannot be used together")
			case flags.Changed("max-messages") && c.max < 1:
				return usagef("--max-messages: must be at least 1")
			case flags.Changed("timeout") && c.timeout <= 0:
				return usagef("--timeout: must be a positive duration, such as 5s")
			}
			return a.consume(cmd.Context(), c)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&c.fromBeginning, "from-beginning", false, "start at the first record (with --group: only where the group has no offset)")
	flags.StringVar(&c.group, "group", "", "consumer `GROUP`; offsets are committed to it")
	flags.Int32Var(&c.partition, "partition", -1, "read only partition `N`")
	flags.Int64Var(&c.offset, "offset", -1, "start at offset `N` of the partition")
	flags.IntVar(&c.max, "max-messages", 0, "end after `N` records")
	flags.DurationVar(&c.timeout, "timeout", 0, "end when there has been no record for `DURATION`")
	flags.BoolVar(&c.printKey, "print-key", false, "print the key before the value")
	flags.BoolVar(&c.printOffset, "print-offset", false, "print the offset")
	flags.BoolVar(&c.printPartition, "print-partition", false, "print the partition")
	flags.BoolVar(&c.printTimestamp, "print-timestamp", false, "print the timestamp and its type")
	for _, name := range []string{"partition", "offset"} {
		flags.Lookup(name).DefValue = "0" // not shown in help
	}
	return cmd
}

func (a *app) consume(ctx context.Context, c consumption) error {
	opts, err := a.start(ctx, c)
	if err != nil || opts == nil {
		return ended(ctx, err)
	}
	cl, err := a.connect(opts...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	to := a.stdout // the records' bytes, unfiltered
	if a.output == "json" || terminal(a.stdout) {
		to = a.out
	}
	out := bufio.NewWriter(to)
	defer out.Flush()
	for n := 0; c.max == 0 || n < c.max; {
		want := 10_000
		if c.max > 0 {
			want = min(want, c.max-n)
		}
		records, err := poll(ctx, cl, want, c.timeout)
		if err != nil {
			return ended(ctx, err)
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			a.printRecord(out, c, r)
		}
		if err := out.Flush(); err != nil {
			return err
		}
		n += len(records)
		if c.group != "" {
			cl.MarkCommitRecords(records...)
		}
	}
	return commit(ctx, cl, c)
}

// commit commits the offsets of printed records, also when ^C ended the command.
func commit(ctx context.Context, cl *cluster, c consumption) error {
	if c.group == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := cl.CommitMarkedOffsets(ctx); err != nil {
		return fmt.Errorf("commit offsets of group %q: %w", c.group, err)
	}
	return nil
}

// ended returns err, or nil if ^C was the cause.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// start returns the client options that set the start position. It prints a line to standard error
// when the command begins to wait for new records: every record produced after that line is seen.
func (a *app) start(ctx context.Context, c consumption) ([]kgo.Opt, error) {
	cl, err := a.connect()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl.Client)
	t, err := topicDetail(ctx, cl, adm, c.topic)
	if err != nil {
		return nil, err
	}
	reset := kgo.NewOffset().AtEnd()
	if c.fromBeginning {
		reset = kgo.NewOffset().AtStart()
	}
	if c.group != "" {
		return []kgo.Opt{
			kgo.ConsumerGroup(c.group), kgo.ConsumeTopics(c.topic), kgo.ConsumeResetOffset(reset),
			kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(500 * time.Millisecond),
		}, nil
	}
	if _, ok := t.Partitions[c.partition]; c.partition >= 0 && !ok {
		return nil, fmt.Errorf("topic %q has no partition %d; it has %d partitions", c.topic, c.partition, len(t.Partitions))
	}
	from := map[int32]kgo.Offset{}
	switch {
	case c.offset >= 0:
		from[c.partition] = kgo.NewOffset().At(c.offset)
		reset = kgo.NoResetOffset()
	case c.fromBeginning:
		for p := range t.Partitions {
			from[p] = kgo.NewOffset().AtStart()
		}
	default:
		ends, err := adm.ListEndOffsets(ctx, c.topic)
		if err != nil {
			return nil, cl.fail(err)
		}
		for p := range t.Partitions {
			end, ok := ends.Lookup(c.topic, p)
			if !ok || end.Err != nil {
				from[p] = kgo.NewOffset().AtEnd()
				continue
			}
			from[p] = kgo.NewOffset().At(end.Offset)
		}
		fmt.Fprintf(a.err, "Waiting for records of topic %q; end with ^C.\n", c.topic)
	}
	if c.partition >= 0 {
		from = map[int32]kgo.Offset{c.partition: from[c.partition]}
	}
	return []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.topic: from}), kgo.ConsumeResetOffset(reset),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}, nil
}

// poll waits for records, at most timeout if timeout is not 0. After the timeout it returns none.
func poll(ctx context.Context, cl *cluster, want int, timeout time.Duration) ([]*kgo.Record, error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		wait, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	for {
		cl.AllowRebalance() // records of the last poll are printed and marked
		fetches := cl.PollRecords(wait, want)
		if records := fetches.Records(); len(records) > 0 {
			return records, nil
		}
		if ctx.Err() != nil || wait.Err() != nil {
			return nil, nil
		}
		var failure error
		fetches.EachError(func(topic string, partition int32, err error) {
			if failure == nil && !errors.Is(err, context.DeadlineExceeded) {
				failure = fmt.Errorf("topic %q partition %d: %w", topic, partition, cl.fail(err))
			}
		})
		if failure != nil {
			return nil, failure
		}
	}
}

type recordJSON struct {
	Topic         string       `json:"topic"`
	Partition     int32        `json:"partition"`
	Offset        int64        `json:"offset"`
	Timestamp     int64        `json:"timestamp"` // Unix milliseconds
	TimestampType string       `json:"timestamp_type"`
	Key           any          `json:"key"`
	Value         any          `json:"value"`
	Headers       []headerJSON `json:"headers"`
}

type headerJSON struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// bytesJSON returns text as a string, other bytes as {"base64": "..."}, null as null.
func bytesJSON(b []byte) any {
	switch {
	case b == nil:
		return nil
	case utf8.Valid(b):
		return string(b)
	}
	return map[string][]byte{"base64": b}
}

// timestampType returns the type's name in Kafka's console consumer.
func timestampType(r *kgo.Record) string {
	switch r.Attrs.TimestampType() {
	case 0:
		return "CreateTime"
	case 1:
		return "LogAppendTime"
	}
	return "NoTimestampType"
}

// printRecord writes one line. The part before the value is in the format of Kafka's console
// consumer, separated by tabs.
func (a *app) printRecord(w *bufio.Writer, c consumption, r *kgo.Record) {
	if a.output == "json" {
		j := recordJSON{r.Topic, r.Partition, r.Offset, r.Timestamp.UnixMilli(), timestampType(r), bytesJSON(r.Key), bytesJSON(r.Value), []headerJSON{}}
		for _, h := range r.Headers {
			j.Headers = append(j.Headers, headerJSON{h.Key, bytesJSON(h.Value)})
		}
		line, _ := json.Marshal(j) // strings and numbers only
		w.Write(append(line, '\n'))
		return
	}
	if c.printTimestamp {
		w.WriteString(timestampType(r) + ":" + strconv.FormatInt(r.Timestamp.UnixMilli(), 10) + "\t")
	}
	if c.printPartition {
		w.WriteString("Partition:" + strconv.Itoa(int(r.Partition)) + "\t")
	}
	if c.printOffset {
		w.WriteString("Offset:" + strconv.FormatInt(r.Offset, 10) + "\t")
	}
	if c.printKey {
		w.WriteString(nullable(r.Key) + "\t")
	}
	w.WriteString(nullable(r.Value) + "\n")
}

func nullable(b []byte) string {
	if b == nil {
		return "null"
	}
	return string(b)
}
