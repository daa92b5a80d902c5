package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/term"
)

// maxLine bounds a line of input in bytes; by default a broker accepts 1 MiB.
const maxLine = 64 << 20

func (a *app) topicProduce() *cobra.Command {
	var (
		parseKey  bool
		delimiter string
	)
	cmd := &cobra.Command{
		Use:   "produce TOPIC [--parse-key [--delimiter D]]",
		Short: "Write each line of standard input as a record",
		Long:  "Writes each line of standard input as a record to a topic, until the end of the input. The command ends at the first record that is refused.",
		Example: `  klink topic produce orders --cluster src
  echo customer-7:shipped | klink topic produce orders --parse-key`,
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: a.completeTopics(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if parseKey && delimiter == "" {
				return usagef("--delimiter: must not be empty")
			}
			return a.withCluster(func(cl *cluster, adm *kadm.Client) error {
				if _, err := topicDetail(cmd.Context(), cl, adm, args[0]); err != nil {
					return err
				}
				if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
					fmt.Fprintf(a.err, "Each line is a record for topic %q; end with ^D.\n", args[0])
				}
				return a.produce(cmd.Context(), cl, args[0], parseKey, delimiter)
			}, kgo.RecordDeliveryTimeout(requestTimeout), kgo.ProducerLinger(time.Millisecond))
		},
	}
	cmd.Flags().BoolVar(&parseKey, "parse-key", false, "lines are KEY, delimiter, VALUE")
	cmd.Flags().StringVar(&delimiter, "delimiter", ":", "`TEXT` that separates key and value with --parse-key")
	return cmd
}

// produce writes the lines of the input as records. It returns as soon as a record is refused, even
// if the input is still open. ^C works like the end of the input: lines that were read are written.
func (a *app) produce(interrupted context.Context, cl *cluster, topic string, parseKey bool, delimiter string) error {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(interrupted))
	defer cancel(nil)
	read := make(chan error, 1)
	go func() {
		read <- eachLine(a.in, func(number int, line []byte) error {
			r := &kgo.Record{Topic: topic, Value: line}
			if parseKey {
				key, value, ok := bytes.Cut(line, []byte(delimiter))
				if !ok {
					return fmt.Errorf("line %d has no delimiter %q", number, delimiter)
				}
				r.Key, r.Value = key, value
			}
			cl.Produce(ctx, r, func(r *kgo.Record, err error) {
				if err != nil {
					cancel(refused(ctx, cl, r, err))
				}
			})
			return context.Cause(ctx)
		})
	}()
	var failure error
	select {
	case failure = <-read:
	case <-interrupted.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	flushed := cl.Flush(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(failure, flushed)
}

// eachLine calls f with each line, without its end (\n or \r\n), as long as f returns nil. Lines
// are numbered from 1. f may keep line.
func eachLine(in io.Reader, f func(number int, line []byte) error) error {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		if err := f(n, bytes.Clone(s.Bytes())); err != nil {
			return err
		}
	}
	return s.Err()
}

// refused returns the error of a record, with the server's own message if there is one. The client
// library keeps only the error code of a produce response. klink refuses a Produce to a mirror with
// INVALID_REQUEST. To get its message, refused sends a produce request without records, which no
// broker appends.
func refused(ctx context.Context, cl *cluster, r *kgo.Record, err error) error {
	if !errors.Is(err, kerr.InvalidRequest) {
		return prefixed("topic", r.Topic, cl.fail(err))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	message, again := askRefusal(ctx, cl, r)
	if again != nil {
		return prefixed("topic", r.Topic, err)
	}
	return prefixed("topic", r.Topic, codeError(err, message))
}

func askRefusal(ctx context.Context, cl *cluster, r *kgo.Record) (*string, error) {
	topics, err := kadm.NewClient(cl.Client).ListTopicsWithInternal(ctx, r.Topic)
	if err != nil {
		return nil, err
	}
	t := topics[r.Topic]
	p, ok := t.Partitions[max(r.Partition, 0)]
	if !ok {
		return nil, kerr.UnknownTopicOrPartition
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, timeoutMs
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = r.Topic, t.ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = p.Partition, []byte{}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	answer, err := cl.Broker(int(p.Leader)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, t := range answer.(*kmsg.ProduceResponse).Topics {
		for _, p := range t.Partitions {
			if errors.Is(kerr.ErrorForCode(p.ErrorCode), kerr.InvalidRequest) {
				return p.ErrorMessage, nil
			}
		}
	}
	return nil, errors.New("the request was refused for another reason")
}
