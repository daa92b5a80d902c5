package router

import (
	"context"
	"maps"
	"slices"

	"klink/protocol"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Addr is a host and port as clients see them.
type Addr struct {
	Host string
	Port int32
}

// Snapshot is everything the router needs to decide about a request. It is immutable: a change
// publishes a new one.
type Snapshot struct {
	// Complete is false until the mirrors have been read from the state topic once, and for a
	// session also when the lease on it has ended (Lease). While it is false no produce is answered
	// (fail closed).
	Complete bool
	// Mirrors by destination topic name: mirrors, and stopped mirrors whose offsets are still
	// translated.
	Mirrors map[string]*Mirror

	// byID has the mirrors whose topic id is known. It is made by index, when the snapshot is
	// published: a mirror must be recognised by its id even when the Directory has never heard of
	// it.
	byID map[[16]byte]*Mirror
	// unidentified is true if there is a mirror whose topic id is not known, so that an unknown id
	// could be its.
	unidentified bool
	// generation is another one whenever something is translated otherwise than by the snapshot
	// before.
	generation uint64
	// expired is this snapshot, but not Complete: what sessions decide by when the lease does not
	// serve.
	expired *Snapshot
}

func (s *Snapshot) index() {
	s.byID = make(map[[16]byte]*Mirror, len(s.Mirrors))
	for _, m := range s.Mirrors {
		if m.TopicID != [16]byte{} {
			s.byID[m.TopicID] = m
		} else {
			s.unidentified = true
		}
	}
}

// follow sets the generation of a snapshot that takes the place of before.
func (s *Snapshot) follow(before *Snapshot) {
	s.generation = before.generation
	same := s.Complete == before.Complete && maps.EqualFunc(s.Mirrors, before.Mirrors, func(a, b *Mirror) bool {
		return a.TopicID == b.TopicID && a.ReadOnly == b.ReadOnly && slices.Equal(a.Timelines, b.Timelines)
	})
	if !same {
		s.generation++
	}
}

// expire makes the snapshot that takes this one's place when the lease ends.
func (s *Snapshot) expire() {
	expired := *s
	expired.Complete = false
	s.expired = &expired
}

// Mirror is what the router knows of one mirror topic. Immutable, but for the timelines, which move
// by themselves.
type Mirror struct {
	Topic string
	// ID tells the mirror from every other one that had, or will have, the same topic name.
	ID          string
	TopicID     [16]byte // of the destination topic; zero while it is not created yet
	Link        string
	SourceTopic string
	State       string // one of the mirror states, for DescribeConfigs
	// ReadOnly is true from the moment the mirror is recorded until it is STOPPED.
	ReadOnly bool
	// Timelines by partition. nil = offsets are shown as they are: the topic is being created and
	// still empty, or is not the mirror any more. Otherwise a partition without one is hidden, as
	// its offsets would be wrong: clients are told to ask again. Partitions beyond the end are
	// hidden while ReadOnly; later they are the topic's own, and shown as they are.
	Timelines []*timeline.Partition
	// SyncedConfigs are the topic configs that follow the source, which clients may not alter while
	// ReadOnly.
	SyncedConfigs map[string]bool
}

// Timeline returns the timeline of a partition, nil if there is none.
func (m *Mirror) Timeline(partition int32) *timeline.Partition {
	if m == nil || partition < 0 || int(partition) >= len(m.Timelines) {
		return nil
	}
	return m.Timelines[partition]
}

// View implements protocol.Mirror.
func (m *Mirror) View(partition int32) protocol.View {
	if t := m.Timeline(partition); t != nil {
		return protocol.View{Timeline: t, Stamped: m.ReadOnly}
	}
	own := !m.ReadOnly && int(partition) >= len(m.Timelines)
	return protocol.View{Hidden: m.Timelines != nil && !own}
}

// MirrorSpec asks for a mirror through CreateTopics or IncrementalAlterConfigs.
type MirrorSpec struct {
	Topic             string
	Link              string
	SourceTopic       string // "" = same as Topic
	NumPartitions     int32  // -1 = as at the source
	ReplicationFactor int16  // -1 = the destination's default
	Configs           map[string]*string
	// Convert turns the existing, empty topic into a mirror instead of creating it.
	Convert      bool
	ValidateOnly bool
}

// Control is the control plane as the router sees it; admin.Service implements it. Its methods do
// I/O and are called off the event loops, after the client has been authorised.
type Control interface {
	// HandleLink serves one request of the link API (protocol/linkapi). The response is never nil
	// and has the version of the request.
	HandleLink(ctx context.Context, req kmsg.Request) kmsg.Response
	// CreateMirror creates a mirror, or validates that it could.
	CreateMirror(ctx context.Context, spec MirrorSpec) *protocol.Error
	// SetMirrorState serves IncrementalAlterConfigs of mirror.state: ACTIVE, PAUSED, STOPPED,
	// PROMOTED.
	SetMirrorState(ctx context.Context, topic, state string, validateOnly bool) *protocol.Error
	// TopicsDeleted ends mirrors whose topics a client has just deleted through klink; it returns
	// when no snapshot has them any more. A mirror of the same name that was created meanwhile
	// stays.
	TopicsDeleted(ctx context.Context, mirrors []DeletedMirror) error
}

// DeletedMirror names one mirror, and not the next one of its name.
type DeletedMirror struct {
	Topic string
	ID    string // Mirror.ID
}

// Facts fetches what a decision lacks. Called off the event loops.
type Facts interface {
	// LearnTopicIDs looks up the names of topic ids and publishes them to the Directory; ids that
	// do not exist are remembered as unknown for a short while, so that a client cannot make klink
	// ask for every request.
	LearnTopicIDs(ctx context.Context, ids [][16]byte) error
	// LearnBrokers refreshes the destination's brokers, opens listeners for new ones and publishes
	// their addresses.
	LearnBrokers(ctx context.Context) error
	// LearnOffset looks into the log of a partition of the destination: it teaches line what the
	// stamp of the batch says that holds the offset physical, if it counts, or else of the first
	// one behind it that does (LearnProbe, of both); and where the log begins or ends, if physical
	// is not in it, or no batch that counts comes after it (LearnStart, LearnEnd, and LearnProbe of
	// the last batch, and of the end). timeline.ProbeEnd asks for the end. nil means that this was
	// done, whatever has been found.
	LearnOffset(ctx context.Context, topic string, partition int32, line *timeline.Partition, physical int64) error
	// SeekTime corrects what a broker has found by timestamp in a partition of a mirror, at the
	// physical offset found. Where that is a marker of klink's, or void, it looks for the first
	// record behind it with that timestamp or a later one, and gives its physical offset and its
	// timestamp; -1 for both if there is none. Otherwise it gives found. It looks only so far:
	// where that does not suffice it gives the physical offset that it has come to, with no record
	// of such a timestamp before it, and the timestamp -1.
	SeekTime(ctx context.Context, topic string, partition int32, line *timeline.Partition, found, timestamp int64) (physical, at int64, err error)
}
