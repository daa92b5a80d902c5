package proxy

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol"
	"klink/router"
)

// meanwhile wraps the router's sessions: it calls during before each Run that a large response
// causes.
type meanwhile struct {
	router.Sessions
	during func()
}

type meanwhileSession struct {
	router.Session
	during func()
}

func (m meanwhile) NewSession(c router.Client) router.Session {
	return meanwhileSession{m.Sessions.NewSession(c), m.during}
}

func (m meanwhileSession) Request(frame []byte) router.Decision {
	return m.wrap(m.Session.Request(frame), false)
}

func (m meanwhileSession) wrap(d router.Decision, large bool) router.Decision {
	if whole := d.Whole; whole != nil {
		d.Whole = func(frame []byte) router.Decision { return m.wrap(whole(frame), len(frame) > 1<<20) }
	}
	if run := d.Run; run != nil && large {
		d.Run = func(ctx context.Context) router.Decision {
			m.during()
			return run(ctx)
		}
	}
	return d
}

// While klink rewrites a full Metadata response of 100,000 topics, other connections of the same
// event loop go on. There is one loop, and the rewriting starts only after another client has
// received ten answers since the response came.
func TestLargeMetadataDoesNotHoldTheLoop(t *testing.T) {
	const topics = 100_000
	full := kmsg.NewPtrMetadataResponse()
	full.Version = 8
	full.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}}
	one := *full
	for i := range topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = kmsg.StringPtr(fmt.Sprint("topic-", i))
		topic.Partitions = []kmsg.MetadataResponseTopicPartition{{Leader: 1}}
		full.Topics = append(full.Topics, topic)
	}
	broker := newBroker(t, nil, func(conn net.Conn) {
		for {
			frame, err := readFrame(conn)
			if err != nil {
				return
			}
			h, err := protocol.ParseRequestHeader(frame)
			if err != nil {
				return
			}
			var resp kmsg.Response = &one
			switch {
			case h.Key == int16(kmsg.Metadata) && h.CorrelationID == 2:
				resp = full
			case h.Key != int16(kmsg.Metadata):
				resp = kmsg.ResponseForKey(h.Key)
				resp.SetVersion(h.Version)
			}
			if _, err := conn.Write(protocol.AppendResponse(nil, h, resp)); err != nil {
				return
			}
		}
	})
	r := router.New(nil, nil)
	r.Publish(&router.Snapshot{Complete: true})
	r.Directory().SetBrokers(map[int32]router.Addr{1: {Host: "klink", Port: 19092}})

	var answers, large atomic.Int64
	p, _ := newProxy(t, broker.addr(), func(c *Config) {
		c.Loops = 1
		c.Sessions = meanwhile{r, func() {
			from := answers.Load()
			for began := time.Now(); answers.Load() < from+10 && time.Since(began) < requestTimeout/2; time.Sleep(time.Millisecond) {
			}
			if answers.Load() >= from+10 {
				large.Add(1)
			}
		}}
	})
	other := dialProxy(t, p, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			list := kmsg.NewPtrListGroupsRequest()
			if _, err := other.Write(protocol.AppendRequest(nil, protocol.RequestHeader{CorrelationID: 1}, list)); err != nil {
				return
			}
			if _, err := readFrame(other); err != nil {
				return
			}
			answers.Add(1)
		}
	}()
	conn := dialProxy(t, p, nil)
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	_, err := conn.Write(protocol.AppendRequest(nil, protocol.RequestHeader{CorrelationID: 2}, req))
	require.NoError(t, err)
	frame, err := readFrame(conn)
	require.NoError(t, err)
	got := kmsg.NewPtrMetadataResponse()
	got.Version = 8
	require.NoError(t, got.ReadFrom(frame[8:]))
	require.Len(t, got.Topics, topics)
	require.Equal(t, "klink", got.Brokers[0].Host)
	require.EqualValues(t, 1, large.Load(), "the response was rewritten on the loop, or the loop was held")
	_ = other.Close()
	awaited(done)
}
