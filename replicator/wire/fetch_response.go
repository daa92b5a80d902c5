package wire

import (
	"errors"
	"fmt"

	"klink/protocol/batch"
)

// ErrMalformed: a response does not have the form that its version prescribes.
var ErrMalformed = errors.New("malformed response")

// FetchResponse walks through a Fetch response without copying it:
//
//	var r wire.FetchResponse
//	for r.Reset(version, body); r.Next(); {
//		use(r.Partition, r.Records)
//	}
//	if err := r.Err(); err != nil { ... }
//
// It can be used again, and allocates nothing once the list of aborted transactions has been large
// enough.
type FetchResponse struct {
	// ThrottleMillis is how long the broker wants the client to wait before its next request,
	// because of a quota.
	ThrottleMillis int32
	// ErrorCode and SessionID are those of the whole response (v7).
	ErrorCode int16
	SessionID int32

	// Topic is the name of the topic of the current partition, TopicID its id from v13 on. Topic
	// aliases the body.
	Topic   []byte
	TopicID [16]byte
	// Nth counts the topics, from 0.
	Nth int

	// FetchPartition is the current partition.
	FetchPartition

	r                  reader
	version            int16
	flexible           bool
	topics, partitions int
}

// FetchPartition is what a broker answers for one partition. Records alias the body; Aborted is
// valid until Next.
type FetchPartition struct {
	Partition     int32
	ErrorCode     int16
	HighWatermark int64
	LastStable    int64 // -1 before v4
	LogStart      int64 // -1 before v5
	Aborted       []batch.AbortedTransaction
	Records       []byte
}

// Reset begins with the body of a response: what follows the correlation id.
func (f *FetchResponse) Reset(version int16, body []byte) {
	f.r = reader{b: body}
	f.version, f.flexible = version, version >= firstFlexibleFetch
	f.ThrottleMillis, f.ErrorCode, f.SessionID = 0, 0, 0
	f.Topic, f.TopicID, f.Nth, f.partitions = nil, [16]byte{}, -1, 0
	f.r.tags(f.flexible)
	if version >= 1 {
		f.ThrottleMillis = f.r.int32()
	}
	if version >= 7 {
		f.ErrorCode = f.r.int16()
		f.SessionID = f.r.int32()
	}
	f.topics = f.r.array(f.flexible, 2)
}

// Next moves to the next partition. It returns false at the end or at an error.
func (f *FetchResponse) Next() bool {
	for f.partitions == 0 {
		if f.Nth >= 0 {
			f.r.tags(f.flexible) // of the topic before
		}
		if f.topics == 0 || f.r.bad {
			f.topics = 0
			f.r.tags(f.flexible && !f.r.bad && f.Nth > -2)
			f.Nth = -2 // done: the tags are read once
			return false
		}
		f.topics--
		f.Nth++
		if f.version >= FirstFetchWithIDs {
			f.TopicID = f.r.id()
		} else {
			f.Topic = f.r.str(f.flexible)
		}
		f.partitions = f.r.array(f.flexible, 18)
	}
	f.partitions--
	f.partition()
	return !f.r.bad
}

func (f *FetchResponse) partition() {
	r, p := &f.r, &f.FetchPartition
	p.Partition = r.int32()
	p.ErrorCode = r.int16()
	p.HighWatermark = r.int64()
	p.LastStable, p.LogStart = -1, -1
	p.Aborted = p.Aborted[:0]
	if f.version >= 4 {
		p.LastStable = r.int64()
		if f.version >= 5 {
			p.LogStart = r.int64()
		}
		for n := r.array(f.flexible, 16); n > 0 && !r.bad; n-- {
			p.Aborted = append(p.Aborted, batch.AbortedTransaction{ProducerID: r.int64(), FirstOffset: r.int64()})
			r.tags(f.flexible)
		}
	}
	if f.version >= 11 {
		r.int32() // preferred read replica: for clients with a rack
	}
	p.Records = r.blob(f.flexible)
	r.tags(f.flexible)
}

// Err returns ErrMalformed if the walk ended early.
func (f *FetchResponse) Err() error {
	if f.r.bad {
		return fmt.Errorf("%w: Fetch v%d", ErrMalformed, f.version)
	}
	return nil
}
