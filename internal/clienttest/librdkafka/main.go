// Command librdkafka reads a topic with librdkafka, as a client of its own kind, and prints what it
// read as JSON lines. It is a module of its own, so that klink's stays free of cgo; the end-to-end
// tests build and run it.
//
//	librdkafka read -b HOST:PORT -t TOPIC [-isolation read_committed]
//	        [-c client.properties key=value ...]
//	librdkafka commit -b HOST:PORT -t TOPIC -g GROUP -n RECORDS
//	        reads RECORDS from the start in the group and commits
//	librdkafka produce -b HOST:PORT -t TOPIC < lines
//	        prints one line per record: offset or error
//
// Each record is {"partition","offset","timestamp_type","timestamp","key","value","headers"} with
// key and value in base64, null when absent. The last line is
// {"watermarks":[{"partition","low","high"}]}.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

type record struct {
	Partition     int32    `json:"partition"`
	Offset        int64    `json:"offset"`
	TimestampType int      `json:"timestamp_type"`
	Timestamp     int64    `json:"timestamp"`
	Key           []byte   `json:"key"`
	Value         []byte   `json:"value"`
	Headers       [][2]any `json:"headers"`
}

type watermark struct {
	Partition int32 `json:"partition"`
	Low       int64 `json:"low"`
	High      int64 `json:"high"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("usage: librdkafka read|commit|produce -b HOST:PORT -t TOPIC")
	}
	fs := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	bootstrap := fs.String("b", "", "bootstrap servers")
	topic := fs.String("t", "", "topic")
	group := fs.String("g", "librdkafka-reader", "group")
	count := fs.Int("n", 0, "records to read before committing")
	isolation := fs.String("isolation", "read_uncommitted", "isolation level")
	timeout := fs.Duration("timeout", 60*time.Second, "gives up after this long")
	if err := fs.Parse(os.Args[2:]); err != nil {
		return err
	}
	config := kafka.ConfigMap{"bootstrap.servers": *bootstrap, "log_level": 4}
	for _, kv := range fs.Args() {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return fmt.Errorf("%q is not key=value", kv)
		}
		config[k] = v
	}
	switch os.Args[1] {
	case "read", "commit":
		config["group.id"] = *group
		config["enable.auto.commit"] = false
		config["auto.offset.reset"] = "earliest"
		config["enable.partition.eof"] = true
		config["isolation.level"] = *isolation
		limit := 0
		if os.Args[1] == "commit" {
			limit = *count
		}
		return read(&config, *topic, limit, *timeout)
	case "produce":
		config["message.timeout.ms"] = int(timeout.Milliseconds())
		return produce(&config, *topic)
	}
	return fmt.Errorf("unknown command %q", os.Args[1])
}

// quiet is how long nothing may come before the rest of a log is taken for a hole.
const quiet = 8 * time.Second

// read prints all records of the topic up to the ends, or commits after limit records if limit > 0.
func read(config *kafka.ConfigMap, topic string, limit int, timeout time.Duration) error {
	c, err := kafka.NewConsumer(config)
	if err != nil {
		return err
	}
	defer c.Close()
	md, err := c.GetMetadata(&topic, false, int(timeout.Milliseconds()))
	if err != nil {
		return err
	}
	var assign []kafka.TopicPartition
	for _, p := range md.Topics[topic].Partitions {
		assign = append(assign, kafka.TopicPartition{Topic: &topic, Partition: p.ID, Offset: kafka.OffsetBeginning})
	}
	if len(assign) == 0 {
		return fmt.Errorf("topic %q has no partitions: %v", topic, md.Topics[topic].Error)
	}
	if err := c.Assign(assign); err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	enc := json.NewEncoder(out)
	done := map[int32]bool{}
	last := time.Now()
	for deadline, n := time.Now().Add(timeout), 0; len(done) < len(assign); {
		// A log that ends in a hole gives no event for its end: whoever asked compares what was read.
		if n > 0 && time.Since(last) > quiet {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v only %d of %d partitions were read to the end", timeout, len(done), len(assign))
		}
		switch e := c.Poll(100).(type) {
		case *kafka.Message:
			last = time.Now()
			r := record{
				Partition: e.TopicPartition.Partition, Offset: int64(e.TopicPartition.Offset),
				TimestampType: int(e.TimestampType), Timestamp: e.Timestamp.UnixMilli(), Key: e.Key, Value: e.Value,
			}
			for _, h := range e.Headers {
				r.Headers = append(r.Headers, [2]any{h.Key, h.Value})
			}
			if err := enc.Encode(r); err != nil {
				return err
			}
			if n++; n == limit {
				_, err := c.CommitMessage(e)
				return err
			}
		case kafka.PartitionEOF:
			done[e.Partition] = true
		case kafka.Error:
			if e.IsFatal() {
				return e
			}
			fmt.Fprintln(os.Stderr, "librdkafka:", e)
		}
	}
	var marks []watermark
	for _, a := range assign {
		low, high, err := c.QueryWatermarkOffsets(topic, a.Partition, int(timeout.Milliseconds()))
		if err != nil {
			return err
		}
		marks = append(marks, watermark{a.Partition, low, high})
	}
	return enc.Encode(map[string]any{"watermarks": marks})
}

func produce(config *kafka.ConfigMap, topic string) error {
	p, err := kafka.NewProducer(config)
	if err != nil {
		return err
	}
	defer p.Close()
	lines := bufio.NewScanner(os.Stdin)
	delivered := make(chan kafka.Event, 1)
	for lines.Scan() {
		err := p.Produce(&kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny}, Value: []byte(lines.Text()),
		}, delivered)
		if err != nil {
			return err
		}
		switch m := (<-delivered).(type) {
		case *kafka.Message:
			if m.TopicPartition.Error != nil {
				fmt.Println("error:", m.TopicPartition.Error)
			} else {
				fmt.Println("offset:", m.TopicPartition.Offset)
			}
		}
	}
	return lines.Err()
}
