package offsets

// Case is what klink knows about a committed offset of one group for one partition of a
// mirror. decide says what klink does about it. It is a pure function; the rest of the offset sync
// gathers its input and carries out its answer.
//
// A group may be active at the source, at the destination or, while it is moved, at both in turn;
// neither cluster knows about the other. An offset at the destination was committed by klink or by
// somebody there: a consumer that took over, or a person who reset the group. OffsetFetch does not
// tell who committed it. klink cannot mark its own commits, because the metadata is the client's.
// So it remembers what it wrote last (Seen): an offset that has not changed since, and has no
// leader epoch, is klink's own.
//
// Invariants:
//  1. klink writes nothing for a group that is active at the destination. (The broker enforces
//     this: it refuses a commit of a non-member for a group with members. klink looks first, to
//     save the request.)
//  2. klink writes no offset beyond the mirror's end, and none while that is not known. It raises a
//     clamped offset when the mirror has got further.
//  3. klink lowers an offset only if it knows that it wrote it. After a crash it does not know, so
//     a restart can make klink timid, but not harmful.
//  4. klink raises an offset that it did not write only if the group has moved at the source since
//     klink last looked. So it does not overrule a person who resets a group at the destination
//     while the group rests at the source. And it follows a group that goes on at the source: its
//     members there have processed the records that are skipped.
//  5. An offset that klink wrote follows the source in both directions: down only when the source
//     is below it, not when only the mirror's end seems to be.
//  6. Where the source has no offset, nothing happens: offsets and groups that are deleted at the
//     source stay at the destination.
//
// Limits. A client that commits exactly the offset that klink wrote last (or, after a restart, had
// stored as written last), without a leader epoch, is mistaken for klink. And Kafka has no
// compare-and-set of offsets: if a consumer joins, commits and leaves between klink's reading of a
// group's offsets and klink's commit, some ten milliseconds, klink overwrites its offset.
type Case struct {
	Source    int64 // committed at the source
	committed int64 // at the destination; -1 = none
	// epoch is the leader epoch of committed: klink writes -1, most consumers write what they have
	// learned from the records.
	epoch int32
	End   int64 // logical end of the mirror; -1 = not known
	// metadata: the metadata at the destination differs from the source's.
	metadata bool
	last     Seen
}

// Seen is what klink remembers from the last time that it handled an offset.
type Seen struct {
	Source int64 // that it saw at the source; -1 = not known
	Wrote  int64 // that it left at the destination as its own; -1 = not its own, or not known
}

var nothingSeen = Seen{-1, -1}

// own reports whether klink is known to have committed the offset at the destination.
func (c Case) own() bool {
	return c.committed >= 0 && c.committed == c.last.Wrote && c.epoch < 0
}

// decide returns the offset to commit at the destination, and whether to commit one.
func (c Case) decide() (at int64, write bool) {
	at = min(c.Source, c.End)
	switch {
	case c.Source < 0 || c.End < 0:
		return -1, false
	case c.committed < 0:
		return at, true
	case c.committed == at:
		return at, c.metadata && c.own()
	case c.own():
		return at, at > c.committed || c.Source < c.committed
	}
	return at, at > c.committed && c.Source != c.last.Source
}

// left returns what to remember when nothing had to be written. (The caller remembers an offset
// that it has written as such. If writing failed, the memory stays as it was.)
func (c Case) left() Seen {
	switch {
	case c.Source < 0 || c.End < 0:
		return c.last // not dealt with
	case c.own():
		return Seen{c.Source, c.committed}
	}
	return Seen{c.Source, -1}
}
