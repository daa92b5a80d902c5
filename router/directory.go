package router

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"unsafe"

	"klink/protocol"
)

// Directory holds the addresses at which clients reach the destination's brokers through klink, and
// the names of topic ids. Reads take no lock and do not allocate. The name of a topic id never
// changes, so an entry stays true; a topic that is deleted and created again gets another id.
//
// The Directory holds at most maxTopicIDs names, or the names of the last SetTopics and a few more.
// klink looks up a forgotten name again when a request needs it. Mirrors are never forgotten,
// because the snapshot holds their ids.
type Directory struct {
	brokers atomic.Pointer[[]map[int32]Addr] // by listener

	mu     sync.Mutex // writers of shards and own
	shards [topicShards]atomic.Pointer[topicShard]
	// own holds klink's own topics, which are never forgotten: klink must recognise by its id what
	// clients may not read, however many topics they create.
	own atomic.Pointer[map[[16]byte]string]
}

// topicShard holds the ids that begin with one byte. It is immutable. A change copies added or
// gone, which are small, and leaves base alone: clients determine how often ids are added, and the
// destination how many topics there are.
type topicShard struct {
	said  map[[16]byte]string // from the last SetTopics
	base  map[[16]byte]string // said, plus the ids added before base was made
	added map[[16]byte]string // the ids added since then
	// gone are ids that are known not to exist. They have their own map, so that they cannot drive
	// out names.
	gone map[[16]byte]struct{}
}

const (
	// topicShards keeps the copy for one new id small. Topic ids are random (UUID version 4), also
	// in their first byte.
	topicShards = 256
	// maxTopicIDs bounds the memory that clients can fill, by creating and deleting topics.
	maxTopicIDs = 1 << 17
	maxShard    = maxTopicIDs / topicShards
	// maxAdded is the size of topicShard.added above which it is merged into base.
	maxAdded = 64
	// maxGone is the largest size of topicShard.gone.
	maxGone = 128
	// maxOwnTopics bounds the memory for names that look like klink's own. klink has a few such
	// topics, and clients cannot create any through it.
	maxOwnTopics = 1 << 10
)

// SetBrokers publishes the advertised addresses by broker id: one map for each listener of the
// proxy, in their order.
func (d *Directory) SetBrokers(listeners ...map[int32]Addr) { d.brokers.Store(&listeners) }

// Broker returns the address of a broker that is advertised to the clients of a listener.
func (d *Directory) Broker(listener int, id int32) (Addr, bool) {
	all := d.brokers.Load()
	if all == nil || listener >= len(*all) {
		return Addr{}, false
	}
	a, ok := (*all)[listener][id]
	return a, ok
}

// listenerView is the Directory as the clients of one listener see it.
type listenerView struct {
	directory *Directory
	listener  int
}

// Address implements protocol.Brokers.
func (v listenerView) Address(id int32) (host string, port int32, ok bool) {
	a, ok := v.directory.Broker(v.listener, id)
	return a.Host, a.Port, ok
}

// view returns the Directory for the session's client. Unlike the session itself, it may be used
// off the event loop.
func (s *session) view() listenerView {
	return listenerView{directory: &s.router.directory, listener: s.listener}
}

// SetTopics publishes the topics that the destination has now. Names that were known before stay,
// because they are still true: a pending Fetch may return records of a topic that was learned from
// a Metadata response a moment ago. Ids that were known not to exist are forgotten. SetTopics
// copies all of topics.
func (d *Directory) SetTopics(topics map[[16]byte]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keepOwn(topics)
	split := splitTopics(topics)
	for i := range d.shards {
		next, old := split[uint8(i)], d.shards[i].Load()
		if next == nil {
			next = &topicShard{}
		}
		if old != nil && len(next.base)+len(old.base)+len(old.added) <= maxShard {
			next.base = joined(next.base, old.base, old.added)
		}
		next.said = next.base
		d.shards[i].Store(next)
	}
}

// AddTopics adds topic ids to the known ones. A name of "" means that the id does not exist.
func (d *Directory) AddTopics(topics map[[16]byte]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keepOwn(topics)
	for i, more := range splitTopics(topics) {
		next := topicShard{added: more.base, gone: more.gone}
		if old := d.shards[i].Load(); old != nil {
			next.said, next.base = old.said, old.base
			all := len(old.base) + len(old.added) + len(more.base)
			switch {
			case len(more.base) == 0:
				next.added = old.added
			case len(old.added)+len(more.base) <= maxAdded && all <= max(maxShard, len(old.said)+maxAdded):
				next.added = joined(old.added, more.base)
			case all <= maxShard:
				next.base, next.added = joined(old.base, old.added, more.base), nil
			default: // ids added earlier are looked up again when needed
				next.base = old.said
			}
			switch {
			case len(more.gone) == 0:
				next.gone = old.gone
			case len(old.gone)+len(more.gone) <= maxGone:
				next.gone = joined(old.gone, more.gone)
			}
		}
		d.shards[i].Store(&next)
	}
}

// ForgetGone forgets that these ids do not exist.
func (d *Directory) ForgetGone(ids [][16]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := map[[16]byte]string{}
	for _, id := range ids {
		gone[id] = ""
	}
	for i, less := range splitTopics(gone) {
		old := d.shards[i].Load()
		if old == nil {
			continue
		}
		next := *old
		next.gone = make(map[[16]byte]struct{}, len(old.gone))
		for id := range old.gone {
			if _, ok := less.gone[id]; !ok {
				next.gone[id] = struct{}{}
			}
		}
		d.shards[i].Store(&next)
	}
}

// joined returns a new map with the entries of all maps.
func joined[V any](all ...map[[16]byte]V) map[[16]byte]V {
	n := 0
	for _, m := range all {
		n += len(m)
	}
	to := make(map[[16]byte]V, n)
	for _, m := range all {
		maps.Copy(to, m)
	}
	return to
}

// keepOwn adds klink's own topics among topics to own. d.mu is held.
func (d *Directory) keepOwn(topics map[[16]byte]string) {
	old := d.own.Load()
	var own map[[16]byte]string
	for id, name := range topics {
		if !isInternal(name) {
			continue
		}
		if old != nil && (*old)[id] != "" {
			continue
		}
		if own == nil {
			own = map[[16]byte]string{}
		}
		own[id] = name
	}
	if own == nil {
		return
	}
	if old != nil {
		if len(*old)+len(own) > maxOwnTopics {
			return // klink's own came first
		}
		maps.Copy(own, *old)
	}
	d.own.Store(&own)
}

// splitTopics sorts ids by shard: names into base, ids without one into gone.
func splitTopics(topics map[[16]byte]string) map[uint8]*topicShard {
	split := map[uint8]*topicShard{}
	for id, name := range topics {
		shard := split[id[0]]
		if shard == nil {
			shard = &topicShard{}
			split[id[0]] = shard
		}
		switch {
		case name == "" && shard.gone == nil:
			shard.gone = map[[16]byte]struct{}{id: {}}
		case name == "":
			shard.gone[id] = struct{}{}
		case shard.base == nil:
			shard.base = map[[16]byte]string{id: name}
		default:
			shard.base[id] = name
		}
	}
	return split
}

// Topic returns the name of a topic id. "" with ok = true means that the id is known not to exist.
func (d *Directory) Topic(id [16]byte) (name string, ok bool) {
	if own := d.own.Load(); own != nil {
		if name := (*own)[id]; name != "" {
			return name, true
		}
	}
	s := d.shards[id[0]].Load()
	if s == nil {
		return "", false
	}
	if name, ok = s.base[id]; ok {
		return name, true
	}
	if name, ok = s.added[id]; ok {
		return name, true
	}
	_, ok = s.gone[id]
	return "", ok
}

// topicName returns the name of a topic in a request or response: name if it is set, else the name
// that the snapshot or the Directory has for id. known is false if klink cannot resolve the id. The
// result may alias the frame: use it for look-ups, and do not keep it.
func (s *session) topicName(sn *Snapshot, name []byte, id [16]byte) (topic string, known bool) {
	if name != nil {
		return unsafe.String(unsafe.SliceData(name), len(name)), true
	}
	if m := sn.byID[id]; m != nil {
		return m.Topic, true
	}
	return s.router.directory.Topic(id)
}

// Address implements protocol.Brokers.
func (s *session) Address(broker int32) (host string, port int32, ok bool) {
	return s.view().Address(broker)
}

// rewriteAddresses answers with a response in which klink's addresses replace those of the brokers.
// rewrite reports whether the Directory lacks a broker of the response. If so, klink learns the
// brokers, opens listeners for new ones, and rewrites again. A broker that is still unknown is left
// out of the response (hide) in a way that makes clients ask again: klink never tells a client an
// address that bypasses klink.
//
// rewrite must not change the frame it was made for unless hide is set, and must not use the
// session, because it is called again off the event loop.
func (s *session) rewriteAddresses(h protocol.RequestHeader, rewrite func(hide bool) (frame []byte, unknown bool, err error)) Decision {
	frame, unknown, err := rewrite(false)
	switch {
	case err != nil:
		return closeResponse(h, err)
	case !unknown:
		return Decision{Action: Answer, Frame: frame}
	}
	facts := s.router.facts
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		// If this fails, the broker stays unknown. The client asks again, and then klink tries
		// again.
		_ = facts.LearnBrokers(ctx)
		frame, _, err := rewrite(true)
		if err != nil {
			return closeResponse(h, err)
		}
		return Decision{Action: Answer, Frame: frame}
	}}
}
