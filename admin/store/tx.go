package store

import (
	"fmt"
	"slices"

	"klink/admin/caslog"
)

// Tx is one change of the store. It sees what it has written.
type Tx struct {
	records *records
	pending map[string][]byte // by key: what earlier changes of the same batch have written
	writes  []caslog.Record
	newest  map[string]int // by key: the index of its last write, among the first looked of them
	looked  int
}

// written returns the value that a key got in this transaction.
func (tx *Tx) written(key string) (value []byte, ok bool) {
	if tx.newest == nil {
		tx.newest = map[string]int{}
	}
	for ; tx.looked < len(tx.writes); tx.looked++ {
		tx.newest[tx.writes[tx.looked].Key] = tx.looked
	}
	if i, ok := tx.newest[key]; ok {
		return tx.writes[i].Value, true
	}
	value, ok = tx.pending[key]
	return value, ok
}

// Link returns a link; nil = there is none. Only a clone of it may be changed.
func (tx *Tx) Link(name string) (*LinkRecord, error) {
	return get(tx, linkKey(name), decodeLink, func() *LinkRecord { return tx.records.links[name] })
}

// Mirror returns a mirror; nil = there is none. Only a clone of it may be changed.
func (tx *Tx) Mirror(topic string) (*MirrorRecord, error) {
	return get(tx, mirrorKey(topic), decodeMirror, func() *MirrorRecord { return tx.records.mirrors[topic] })
}

// Timeline returns the timeline of a partition; nil = there is none. Only a clone of it may be
// changed.
func (tx *Tx) Timeline(topic string, partition int32) (*TimelineRecord, error) {
	return get(tx, timelineKey(TimelineAt{topic, partition}), decodeTimeline, func() *TimelineRecord {
		return tx.records.timelines[topic][partition]
	})
}

func get[R any](tx *Tx, key string, decode func([]byte) (*R, error), stored func() *R) (*R, error) {
	if value, ok := tx.written(key); ok {
		if value == nil {
			return nil, nil
		}
		return decode(value)
	}
	if err := tx.records.broken[key]; err != nil {
		return nil, fmt.Errorf("cannot read the record %s of %s (%w): delete the link or topic, or repair the record", key, StateTopic, err)
	}
	return stored(), nil
}

// PutLink writes a link, if it differs from what is there.
func (tx *Tx) PutLink(name string, r *LinkRecord) error {
	old, err := tx.Link(name)
	if err != nil {
		return err
	}
	return put(tx, linkKey(name), old, r)
}

// PutMirror writes a mirror, if it differs from what is there.
func (tx *Tx) PutMirror(topic string, r *MirrorRecord) error {
	old, err := tx.Mirror(topic)
	if err != nil {
		return err
	}
	return put(tx, mirrorKey(topic), old, r)
}

// PutTimeline writes the timeline of a partition, if it differs from what is there. It must come
// before the record of a mirror that relies on it.
func (tx *Tx) PutTimeline(topic string, partition int32, r *TimelineRecord) error {
	old, err := tx.Timeline(topic, partition)
	if err != nil {
		return err
	}
	return put(tx, timelineKey(TimelineAt{topic, partition}), old, r)
}

// PutCheckpoint writes a checkpoint of a partition, unless the same mirror has one that is as far
// or further: two owners may write one after the other, and the late one knows less. A Tx must
// write each checkpoint only once, because PutCheckpoint does not search the Tx's own writes: there
// may be very many.
func (tx *Tx) PutCheckpoint(at TimelineAt, r *CheckpointRecord) error {
	key := checkpointKey(at)
	old := tx.records.checkpoints[at.Topic][at.Partition]
	if value, ok := tx.pending[key]; ok {
		old = nil
		if value != nil {
			old, _ = decodeCheckpoint(value)
		}
	}
	if old != nil && old.Mirror == r.Mirror && (old.Physical > r.Physical || old.Logical > r.Logical || *old == *r) {
		return nil
	}
	value, err := r.encode()
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, caslog.Record{Key: key, Value: value})
	return nil
}

type encoder interface{ encode() ([]byte, error) }

func put[R any, P interface {
	*R
	encoder
}](tx *Tx, key string, old, r P) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	if old != nil {
		before, err := old.encode()
		if err != nil {
			return err
		}
		if slices.Equal(before, value) {
			return nil
		}
	}
	tx.writes = append(tx.writes, caslog.Record{Key: key, Value: value})
	return nil
}

// Offsets returns what is remembered about the offsets of the link with this id; nil = nothing, or
// it cannot be read, which is no loss. The caller must not change it.
func (tx *Tx) Offsets(link, id string) *OffsetsRecord {
	r, err := get(tx, offsetsKey(link), decodeOffsets, func() *OffsetsRecord { return tx.records.offsets[link] })
	if err != nil || r == nil || r.Link != id {
		return nil
	}
	return r
}

// PutOffsets writes what is remembered about the offsets of a link, over whatever is there. It does
// nothing if the link is gone.
func (tx *Tx) PutOffsets(link string, r *OffsetsRecord) error {
	l, err := tx.Link(link)
	if err != nil || l == nil || l.ID != r.Link {
		return err
	}
	value, err := r.encode()
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, caslog.Record{Key: offsetsKey(link), Value: value})
	return nil
}

// DeleteLink deletes a link, even a broken one, and what is remembered of its offsets.
func (tx *Tx) DeleteLink(name string) {
	if tx.has(linkKey(name), tx.records.links[name] != nil) {
		tx.writes = append(tx.writes, caslog.Record{Key: linkKey(name)})
	}
	if tx.has(offsetsKey(name), tx.records.offsets[name] != nil) {
		tx.writes = append(tx.writes, caslog.Record{Key: offsetsKey(name)})
	}
}

// DeleteMirror deletes a mirror with its timelines and checkpoints, even broken ones.
func (tx *Tx) DeleteMirror(topic string) {
	if tx.has(mirrorKey(topic), tx.records.mirrors[topic] != nil) {
		tx.writes = append(tx.writes, caslog.Record{Key: mirrorKey(topic)})
	}
	var keys []string
	for p := range tx.records.timelines[topic] {
		keys = append(keys, timelineKey(TimelineAt{topic, p}))
	}
	for p := range tx.records.checkpoints[topic] {
		keys = append(keys, checkpointKey(TimelineAt{topic, p}))
	}
	for key := range tx.records.broken {
		keys = append(keys, key)
	}
	for key := range tx.pending {
		keys = append(keys, key)
	}
	for _, r := range tx.writes {
		keys = append(keys, r.Key)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		k, err := parseRecordKey([]byte(key))
		if err != nil || k.Name != topic || k.Kind != kindTimeline && k.Kind != kindCheckpoint {
			continue
		}
		stored := tx.records.timelines[topic][k.Partition] != nil
		if k.Kind == kindCheckpoint {
			stored = tx.records.checkpoints[topic][k.Partition] != nil
		}
		if tx.has(key, stored) {
			tx.writes = append(tx.writes, caslog.Record{Key: key})
		}
	}
}

// has reports whether a key has a value now.
func (tx *Tx) has(key string, stored bool) bool {
	if value, ok := tx.written(key); ok {
		return value != nil
	}
	return stored || tx.records.broken[key] != nil
}

// Mirrors lists the topics of all mirrors that can be read, in order.
func (tx *Tx) Mirrors() []string {
	var topics []string
	add := func(key string) {
		if k, err := parseRecordKey([]byte(key)); err == nil && k.Kind == kindMirror {
			topics = append(topics, k.Name)
		}
	}
	for key := range tx.pending {
		add(key)
	}
	for _, r := range tx.writes {
		add(r.Key)
	}
	for topic := range tx.records.mirrors {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	return slices.DeleteFunc(topics, func(t string) bool {
		m, err := tx.Mirror(t)
		return err != nil || m == nil
	})
}
