package replicator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/singleflight"
)

// errNotThere: the mirror's topic does not exist at the destination (any more), or another topic
// has its name.
var errNotThere = errors.New("no such topic at the destination")

// destination is the cluster that mirrors live on: leaders of partitions, and the streams that
// append.
type destination struct {
	r *Replicator
	// clients are one per lane of a stream, for requests other than batches: franz-go keeps one
	// connection per client and broker.
	clients []*kgo.Client
	dialer  *wire.Dialer // of the connections that append
	at      addresses

	refreshes singleflight.Group
	resuming  chan struct{} // bounds how many partitions are resumed at once

	// noAppendTime is set if the brokers refuse batches with the LogAppendTime bit, as those of 2.x
	// do. klink learns it from the first refusal and remembers it for the life of the process.
	noAppendTime atomic.Bool

	mu      sync.Mutex
	topics  map[string]*destTopic
	streams map[int32]*stream // by broker
}

// destTopic is the metadata of a topic. Immutable.
type destTopic struct {
	id      [16]byte
	leaders []int32 // -1 = none
	epochs  []int32
}

// maxResumes bounds how many partitions are resumed at once.
const maxResumes = 32

func newDestination(r *Replicator, opts []kgo.Opt, connections int) (*destination, error) {
	d := &destination{
		r: r, topics: map[string]*destTopic{}, streams: map[int32]*stream{},
		resuming: make(chan struct{}, maxResumes),
	}
	for range connections {
		all := append([]kgo.Opt{kgo.ClientID("klink")}, opts...)
		all = append(all,
			// A raw ProduceRequest gets the acks of the client's configuration.
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.RetryBackoffFn(func(int) time.Duration { return 200 * time.Millisecond }),
			// A batch is as large as the source's; the broker decides what is too large.
			kgo.BrokerMaxWriteBytes(1<<30), kgo.BrokerMaxReadBytes(1<<30),
			kgo.ConnIdleTimeout(15*time.Minute),
		)
		cl, err := kgo.NewClient(all...)
		if err != nil {
			d.close()
			return nil, fmt.Errorf("could not create the client for the destination: %w", err)
		}
		d.clients = append(d.clients, cl)
	}
	d.dialer = wire.DialerOf(d.clients[0])
	return d, nil
}

func (d *destination) close() {
	for _, cl := range d.clients {
		cl.Close()
	}
}

// broker returns a broker for requests that are not appends.
func (d *destination) broker(id int32) *kgo.Broker { return d.clients[0].Broker(int(id)) }

// stream returns the stream that appends at a broker, and starts it if there is none.
func (d *destination) stream(broker int32) *stream {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.streams[broker]
	if s == nil {
		s = &stream{d: d, broker: broker, units: newCombiner(len(d.clients))}
		d.streams[broker] = s
		for _, cl := range d.clients {
			d.r.spawn(newLane(s, cl).run)
		}
	}
	return s
}

// topic returns the metadata of a topic. It asks a broker if it has none yet, or only stale.
func (d *destination) topic(ctx context.Context, name string, stale *destTopic) (*destTopic, error) {
	d.mu.Lock()
	t := d.topics[name]
	d.mu.Unlock()
	if t != nil && t != stale {
		return t, nil
	}
	if stale != nil {
		d.refreshBrokers()
	}
	v, err, _ := d.refreshes.Do(name, func() (any, error) { return d.fetchTopic(ctx, name) })
	if err != nil {
		return nil, err
	}
	return v.(*destTopic), nil
}

func (d *destination) fetchTopic(ctx context.Context, name string) (*destTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, d.clients[0])
	if err != nil {
		return nil, err
	}
	d.at.learn(resp.Brokers)
	if len(resp.Topics) != 1 {
		return nil, fmt.Errorf("the metadata response for %q has %d topics", name, len(resp.Topics))
	}
	rp := resp.Topics[0]
	switch err := kerr.ErrorForCode(rp.ErrorCode); {
	case err == nil:
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, errNotThere
	default:
		return nil, err
	}
	t := &destTopic{id: rp.TopicID, leaders: make([]int32, len(rp.Partitions)), epochs: make([]int32, len(rp.Partitions))}
	for i := range t.leaders {
		t.leaders[i], t.epochs[i] = -1, -1
	}
	for _, p := range rp.Partitions {
		if p.Partition < 0 || int(p.Partition) >= len(t.leaders) {
			return nil, fmt.Errorf("the metadata of %q has partition %d, but only %d partitions", name, p.Partition, len(t.leaders))
		}
		if p.ErrorCode == 0 {
			t.leaders[p.Partition], t.epochs[p.Partition] = p.Leader, p.LeaderEpoch
		}
	}
	d.mu.Lock()
	d.topics[name] = t
	d.mu.Unlock()
	return t, nil
}

// refreshBrokers makes every client learn where the brokers are now: a client learns it only from
// metadata that it asked for itself.
func (d *destination) refreshBrokers() {
	for i, cl := range d.clients[1:] {
		d.refreshes.DoChan("client "+strconv.Itoa(i), func() (any, error) {
			ctx, cancel := context.WithTimeout(d.r.life, 10*time.Second)
			defer cancel()
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = []kmsg.MetadataRequestTopic{} // none; null would be all
			_, err := req.RequestWith(ctx, cl)
			return nil, err
		})
	}
}

// forget drops the metadata of a topic that this instance no longer runs.
func (d *destination) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.topics, name)
}
