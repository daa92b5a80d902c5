package admin

// offsetCase is what is known of a committed offset: of one group, for one partition of a mirror.
// decide says what klink does about it. It is a pure function; the rest of the offset sync finds
// out its input and carries out its answer.
//
// A group may be at work at the source, at the destination, or, while it is moved, at both in
// turns; neither cluster knows of the other. What is committed at the destination is of klink, or
// of somebody there: a consumer that took over, a person who reset the group. OffsetFetch does not
// tell who committed. klink cannot mark its own commits, as the metadata is the client's, so it
// remembers what it wrote last (offsetSeen): what stands there unchanged, without a leader epoch,
// is its own.
//
// Invariants:
//  1. Nothing is written for a group that is active at the destination. (The broker sees to it: a
//     commit of a non-member for a group with members is refused. klink looks first, so that it
//     need not ask.)
//  2. What is written is at most the mirror's end; as long as that is not known nothing is. A
//     clamped offset is brought up when the mirror has got further.
//  3. An offset that klink did not write, or does not know to have written, is never lowered. Not
//     knowing is the state after a crash, so a restart can make klink timid, but not harmful.
//  4. An offset that klink did not write is raised only when the group has moved at the source
//     since klink looked last. So who resets a group at the destination, while it rests at the
//     source, is not overruled, and a group that goes on at the source is followed: its members
//     there have worked on what is skipped.
//  5. An offset that klink wrote follows the source in both directions: down only when the source
//     is below it, and not because the mirror's end seems to be.
//  6. Where the source has no offset, nothing happens: offsets and groups that are deleted at the
//     source stay at the destination.
//
// Limits. Who commits exactly the offset that klink wrote last (or, after a restart, had stored as
// written last), without a leader epoch, is taken for klink. And Kafka has no compare-and-set of
// offsets: a consumer that joins, commits and leaves between klink's reading of a group's offsets
// and its commit, some ten milliseconds, is overwritten.
type offsetCase struct {
	source    int64 // committed at the source
	committed int64 // at the destination; -1 = none
	// epoch is the leader epoch of committed: klink writes -1, most consumers write what they have
	// learned from the records.
	epoch int32
	end   int64 // logical end of the mirror; -1 = not known
	// metadata: the one at the destination is not the source's.
	metadata bool
	last     offsetSeen
}

// offsetSeen is what klink remembers of the last time that it dealt with an offset.
type offsetSeen struct {
	source int64 // that it saw at the source; -1 = not known
	wrote  int64 // that it left at the destination as its own; -1 = not its own, or not known
}

var nothingSeen = offsetSeen{-1, -1}

// own says whether what is committed at the destination is known to be of klink.
func (c offsetCase) own() bool {
	return c.committed >= 0 && c.committed == c.last.wrote && c.epoch < 0
}

// decide says whether something is to be committed at the destination, and which offset.
func (c offsetCase) decide() (at int64, write bool) {
	at = min(c.source, c.end)
	switch {
	case c.source < 0 || c.end < 0:
		return -1, false
	case c.committed < 0:
		return at, true
	case c.committed == at:
		return at, c.metadata && c.own()
	case c.own():
		return at, at > c.committed || c.source < c.committed
	}
	return at, at > c.committed && c.source != c.last.source
}

// left is what to remember when nothing had to be written. (What was written is remembered as such,
// and where that failed, the memory stays as it was.)
func (c offsetCase) left() offsetSeen {
	switch {
	case c.source < 0 || c.end < 0:
		return c.last // not dealt with
	case c.own():
		return offsetSeen{c.source, c.committed}
	}
	return offsetSeen{c.source, -1}
}
