package wire

import "slices"

// Order lists the topics and partitions of a request, to find those of the response again. A broker
// mostly answers in the order of the request, so the expected place is tried first; a partition
// anywhere else is found, too. An order is reused for the next request, and allocates nothing once
// it has been large enough.
type Order struct {
	topics     []orderTopic
	partitions []int32
	topic, at  int // where the next partition is expected
}

type orderTopic struct {
	name     string
	id       [16]byte
	from, to int // indexes in partitions
}

// Reset empties the order for the next request.
func (o *Order) Reset() {
	clear(o.topics)
	o.topics, o.partitions = o.topics[:0], o.partitions[:0]
	o.topic, o.at = 0, 0
}

// AddTopic adds a topic, without partitions yet.
func (o *Order) AddTopic(name string, id [16]byte) {
	n := len(o.partitions)
	o.topics = append(o.topics, orderTopic{name, id, n, n})
}

// Add adds a partition to the topic that was added last.
func (o *Order) Add(partition int32) {
	o.partitions = append(o.partitions, partition)
	o.topics[len(o.topics)-1].to++
}

// Find returns the index of a partition among all of the request, -1 = the request does not name
// it. The topic is found by id if byID is set, else by name.
func (o *Order) Find(name []byte, id *[16]byte, byID bool, partition int32) int {
	is := func(t *orderTopic) bool {
		if byID {
			return t.id == *id
		}
		return t.name == string(name)
	}
	if o.topic == len(o.topics) || !is(&o.topics[o.topic]) {
		found := -1
		for n := range o.topics {
			if i := (o.topic + n) % len(o.topics); is(&o.topics[i]) {
				found = i
				break
			}
		}
		if found < 0 {
			return -1
		}
		o.topic, o.at = found, o.topics[found].from
	}
	t := &o.topics[o.topic]
	if o.at >= t.to || o.partitions[o.at] != partition {
		at := max(t.from, min(o.at, t.to))
		i := slices.Index(o.partitions[at:t.to], partition)
		if i < 0 {
			at = t.from
			if i = slices.Index(o.partitions[at:t.to], partition); i < 0 {
				return -1
			}
		}
		o.at = at + i
	}
	o.at++
	return o.at - 1
}
