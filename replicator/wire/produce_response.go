package wire

import "fmt"

// ProduceResponse walks through a Produce response without copying it, as FetchResponse does. It
// can be used again and allocates nothing. ThrottleMillis is known at the end of the walk, as it
// stands behind the partitions.
type ProduceResponse struct {
	ThrottleMillis int32

	// Topic is the name of the topic of the current partition, TopicID its id from v13 on. Topic
	// aliases the body.
	Topic   []byte
	TopicID [16]byte
	// Nth counts the topics, from 0.
	Nth int

	// ProducePartition is the current partition.
	ProducePartition

	r                  reader
	version            int16
	flexible           bool
	topics, partitions int
}

// ProducePartition is what a broker answers for one partition. Message, nil = none (v8), aliases
// the body.
type ProducePartition struct {
	Partition  int32
	ErrorCode  int16
	BaseOffset int64
	// AppendTime is the time that the broker gave the records instead of their own, in
	// milliseconds; -1 = none.
	AppendTime int64
	Message    []byte
}

// Reset begins with the body of a response: what follows the correlation id.
func (p *ProduceResponse) Reset(version int16, body []byte) {
	p.r = reader{b: body}
	p.version, p.flexible = version, version >= firstFlexibleProduce
	p.ThrottleMillis, p.Topic, p.TopicID, p.Nth, p.partitions = 0, nil, [16]byte{}, -1, 0
	p.r.tags(p.flexible)
	p.topics = p.r.array(p.flexible, 2)
}

// Next moves to the next partition. It returns false at the end or at an error.
func (p *ProduceResponse) Next() bool {
	for p.partitions == 0 {
		if p.Nth >= 0 {
			p.r.tags(p.flexible) // of the topic before
		}
		if p.topics == 0 || p.r.bad {
			p.topics = 0
			if !p.r.bad && p.Nth > -2 {
				p.ThrottleMillis = p.r.int32()
				p.r.tags(p.flexible)
			}
			p.Nth = -2 // done: what follows is read once
			return false
		}
		p.topics--
		p.Nth++
		if p.version >= FirstProduceWithIDs {
			p.TopicID = p.r.id()
		} else {
			p.Topic = p.r.str(p.flexible)
		}
		p.partitions = p.r.array(p.flexible, 14)
	}
	p.partitions--
	p.partition()
	return !p.r.bad
}

func (p *ProduceResponse) partition() {
	r := &p.r
	p.Partition = r.int32()
	p.ErrorCode = r.int16()
	p.BaseOffset = r.int64()
	p.Message, p.AppendTime = nil, -1
	if p.version >= 2 {
		p.AppendTime = r.int64()
	}
	if p.version >= 5 {
		r.int64() // log start offset
	}
	if p.version >= 8 {
		for n := r.array(p.flexible, 5); n > 0 && !r.bad; n-- {
			r.int32()
			r.str(p.flexible)
			r.tags(p.flexible)
		}
		p.Message = r.str(p.flexible)
	}
	r.tags(p.flexible)
}

// Err returns ErrMalformed if the walk ended early.
func (p *ProduceResponse) Err() error {
	if p.r.bad {
		return fmt.Errorf("%w: Produce v%d", ErrMalformed, p.version)
	}
	return nil
}
