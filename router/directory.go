package router

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Directory knows the brokers of the destination as clients reach them through klink, and the names of topic ids. Reads
// take no lock and do not allocate. A topic id never changes its name, so what is known of one stays true; a topic that
// is deleted and created again gets another id.
//
// It holds maxTopicIDs at most, or what SetTopics was given last. What is forgotten is looked up again when a request needs
// it; mirrors are never forgotten, as the snapshot knows their ids.
type Directory struct {
	brokers atomic.Pointer[map[int32]Addr]

	mu     sync.Mutex // writers of shards and own
	shards [topicShards]atomic.Pointer[map[[16]byte]string]
	// own has klink's own topics, which are never forgotten: what clients may not read must be recognised by its id however
	// many topics they make.
	own atomic.Pointer[map[[16]byte]string]
}

const (
	// topicShards keeps small what has to be copied for one new id. Topic ids are random (UUID version 4), also in
	// their first byte.
	topicShards = 256
	// maxTopicIDs bounds the memory that clients can fill, by creating and deleting topics.
	maxTopicIDs = 1 << 17
	// maxOwnTopics bounds the same for names that look like klink's. It has a few, and clients cannot make any through it.
	maxOwnTopics = 1 << 10
)

// SetBrokers publishes the advertised addresses by broker id.
func (d *Directory) SetBrokers(brokers map[int32]Addr) { d.brokers.Store(&brokers) }

// Broker returns the advertised address of a broker.
func (d *Directory) Broker(id int32) (Addr, bool) {
	m := d.brokers.Load()
	if m == nil {
		return Addr{}, false
	}
	a, ok := (*m)[id]
	return a, ok
}

// Address implements protocol.Brokers.
func (d *Directory) Address(id int32) (host string, port int32, ok bool) {
	a, ok := d.Broker(id)
	return a.Host, a.Port, ok
}

// SetTopics publishes what the destination says now. Names that were known before stay known, as they are still true:
// a Fetch that is under way may bring records of a topic that was learned from a Metadata response a moment ago. Ids
// that were known not to exist, and are not in topics, are forgotten.
func (d *Directory) SetTopics(topics map[[16]byte]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keepOwn(topics)
	split := splitTopics(topics)
	for i := range d.shards {
		shard := split[uint8(i)]
		if old := d.shards[i].Load(); old != nil && len(*old)+len(shard) <= maxTopicIDs/topicShards {
			merged := maps.Clone(shard)
			if merged == nil {
				merged = map[[16]byte]string{}
			}
			for id, name := range *old {
				if merged[id] == "" && name != "" {
					merged[id] = name
				}
			}
			shard = merged
		}
		d.shards[i].Store(&shard)
	}
}

// AddTopics adds topic ids to those that are known; a name of "" says that there is no such id.
func (d *Directory) AddTopics(topics map[[16]byte]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keepOwn(topics)
	for i, added := range splitTopics(topics) {
		shard := added
		if old := d.shards[i].Load(); old != nil && len(*old)+len(added) <= maxTopicIDs/topicShards {
			shard = make(map[[16]byte]string, len(*old)+len(added))
			maps.Copy(shard, *old)
			maps.Copy(shard, added)
		}
		d.shards[i].Store(&shard)
	}
}

// keepOwn notes those of topics that are klink's own. d.mu is held.
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

func splitTopics(topics map[[16]byte]string) map[uint8]map[[16]byte]string {
	split := map[uint8]map[[16]byte]string{}
	for id, name := range topics {
		shard := split[id[0]]
		if shard == nil {
			shard = map[[16]byte]string{}
			split[id[0]] = shard
		}
		shard[id] = name
	}
	return split
}

// Topic returns the name of a topic id; "" with ok = the id is known not to exist.
func (d *Directory) Topic(id [16]byte) (name string, ok bool) {
	if own := d.own.Load(); own != nil {
		if name := (*own)[id]; name != "" {
			return name, true
		}
	}
	m := d.shards[id[0]].Load()
	if m == nil {
		return "", false
	}
	name, ok = (*m)[id]
	return name, ok
}
