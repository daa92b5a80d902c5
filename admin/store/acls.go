package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"klink/admin/aclsync"
	"klink/admin/caslog"
)

func (s *Store) applyACLs(k recordKey, value []byte) error {
	at := TimelineAt{k.Name, k.Partition}
	forget(s.records.acls, at)
	if value == nil {
		return nil
	}
	r, err := decodeACLs(value)
	if err != nil {
		return err
	}
	keep(s.records.acls, at, r)
	return nil
}

// Read calls fn with a Tx of what this instance has read so far. Writes to the Tx are dropped.
// Other instances may have read more.
func (s *Store) Read(fn func(tx *Tx) error) error {
	defer s.log.Hold()()
	return fn(&Tx{records: &s.records})
}

// aclRecords returns the records of a link's ACLs that exist, by bucket. The caller must not change
// them.
func (tx *Tx) aclRecords(link string) (map[int32]*aclsRecord, error) {
	for key, err := range tx.records.broken {
		// If the key was written or deleted since, the value that cannot be read does not matter.
		if _, written := tx.written(key); strings.HasPrefix(key, aclsPrefix(link)) && !written {
			return nil, fmt.Errorf("cannot read the record %s of %s (%w), so klink does not know which ACLs it has created: delete link %q, or repair the record", key, StateTopic, err, link)
		}
	}
	records := map[int32]*aclsRecord{}
	for b := range int32(aclBuckets) {
		r, err := get(tx, aclsKey(link, b), decodeACLs, func() *aclsRecord { return tx.records.acls[link][b] })
		if err != nil {
			return nil, err
		}
		if r != nil {
			records[b] = r
		}
	}
	return records, nil
}

// ACLs returns the ACLs that are remembered for the link with this id; the map is the caller's.
func (tx *Tx) ACLs(link, id string) (map[aclsync.Binding]ACLEntry, error) {
	records, err := tx.aclRecords(link)
	if err != nil {
		return nil, err
	}
	acls := map[aclsync.Binding]ACLEntry{}
	for _, r := range records {
		if r.LinkID != id {
			continue
		}
		for _, e := range r.ACLs {
			acls[e.Binding] = e
		}
	}
	return acls, nil
}

// OtherACLs returns the ACLs that are remembered for any link but one.
func (tx *Tx) OtherACLs(link string) (aclsync.Set, error) {
	links := map[string]bool{}
	for name := range tx.records.acls {
		links[name] = true
	}
	add := func(key string) {
		if rest, ok := strings.CutPrefix(key, aclsPrefix("")); ok {
			name, _, _ := strings.Cut(rest, "/")
			links[name] = true
		}
	}
	for key := range tx.records.broken {
		add(key)
	}
	for key := range tx.pending {
		add(key)
	}
	delete(links, link)
	others := aclsync.Set{}
	for name := range links {
		l, err := tx.Link(name)
		if err != nil {
			return nil, err
		}
		if l == nil {
			continue // deleted by a klink that did not know these records
		}
		acls, err := tx.ACLs(name, l.ID)
		if err != nil {
			return nil, err
		}
		for a := range acls {
			others.Add(a)
		}
	}
	return others, nil
}

// PutACLs stores the ACLs that are remembered for a link. It writes only records that differ.
func (tx *Tx) PutACLs(link, id string, acls map[aclsync.Binding]ACLEntry) error {
	old, err := tx.aclRecords(link)
	if err != nil {
		return err
	}
	next := map[int32]*aclsRecord{}
	for _, a := range aclsync.Sorted(acls) {
		b := a.Bucket(aclBuckets)
		if next[b] == nil {
			next[b] = &aclsRecord{LinkID: id}
			if old[b] != nil {
				next[b].unknown = old[b].unknown
			}
		}
		next[b].ACLs = append(next[b].ACLs, acls[a])
	}
	for b := range int32(aclBuckets) {
		switch {
		case next[b] != nil:
			if err := put(tx, aclsKey(link, b), old[b], next[b]); err != nil {
				return err
			}
		case old[b] != nil:
			tx.writes = append(tx.writes, caslog.Record{Key: aclsKey(link, b)})
		}
	}
	return nil
}

// DeleteACLs deletes the records of a link's ACLs, even broken ones. The ACLs themselves stay.
func (tx *Tx) DeleteACLs(link string) {
	keys := map[string]bool{}
	for b := range int32(aclBuckets) {
		keys[aclsKey(link, b)] = tx.records.acls[link][b] != nil
	}
	for key := range tx.records.broken {
		if strings.HasPrefix(key, aclsPrefix(link)) {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if tx.has(key, keys[key]) {
			tx.writes = append(tx.writes, caslog.Record{Key: key})
		}
	}
}
