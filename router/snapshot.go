package router

import (
	"context"
	"maps"
	"slices"

	"klink/protocol"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Addr is the host and port at which clients reach a broker.
type Addr struct {
	Host string
	Port int32
}

// Snapshot is everything the router needs to decide about a request. It is immutable: a change
// publishes a new one.
type Snapshot struct {
	// Complete is false until the mirrors have been read from the state topic once. A session also
	// sees an incomplete snapshot when the lease has ended (Lease). While Complete is false klink
	// answers no produce (fail closed).
	Complete bool
	// Mirrors by destination topic name, including stopped mirrors whose offsets are still
	// translated.
	Mirrors map[string]*Mirror

	// byID holds the mirrors whose topic id is known. index makes it when the snapshot is
	// published: klink must recognise a mirror by its id even if the Directory has never seen that
	// id.
	byID map[[16]byte]*Mirror
	// unidentified is true if the topic id of a mirror is not known, so that an unknown id could be
	// that mirror's.
	unidentified bool
	// generation changes whenever any offset translation changes.
	generation uint64
	// expired is this snapshot, but not Complete. Sessions use it while the lease does not serve.
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

// follow sets the generation of a snapshot that replaces before.
func (s *Snapshot) follow(before *Snapshot) {
	s.generation = before.generation
	same := s.Complete == before.Complete && maps.EqualFunc(s.Mirrors, before.Mirrors, func(a, b *Mirror) bool {
		return a.TopicID == b.TopicID && a.ReadOnly == b.ReadOnly && slices.Equal(a.Timelines, b.Timelines)
	})
	if !same {
		s.generation++
	}
}

// expire makes the snapshot that replaces this one when the lease ends.
func (s *Snapshot) expire() {
	expired := *s
	expired.Complete = false
	s.expired = &expired
}

// Mirror is what the router knows about one mirror topic. It is immutable, except for the
// timelines, which go on learning and growing.
type Mirror struct {
	Topic string
	// ID distinguishes the mirror from every earlier and later mirror with the same topic name.
	ID          string
	TopicID     [16]byte // of the destination topic; zero while it is not created yet
	Link        string
	SourceTopic string
	State       string // one of the mirror states, for DescribeConfigs
	// ReadOnly is true from the moment the mirror is recorded until it is STOPPED.
	ReadOnly bool
	// Timelines by partition. nil means that offsets are shown unchanged: the topic is being
	// created and still empty, or is no longer the mirror. Otherwise a partition without a timeline
	// is hidden, because its offsets would be wrong: clients are told to ask again. Partitions
	// beyond the end of Timelines are hidden while ReadOnly; later they are the topic's own, and
	// shown unchanged.
	Timelines []*timeline.Partition
	// SyncedConfigs are the topic configs that follow the source. Clients may not alter them while
	// ReadOnly.
	SyncedConfigs map[string]bool
}

// Timeline returns the timeline of a partition, or nil if there is none.
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
// I/O, and are called off the event loops after the client has been authorised.
type Control interface {
	// HandleLink serves one request of the link API (protocol/linkapi). The response is never nil
	// and has the version of the request.
	HandleLink(ctx context.Context, req kmsg.Request) kmsg.Response
	// CreateMirror creates a mirror, or with ValidateOnly checks that it could.
	CreateMirror(ctx context.Context, spec MirrorSpec) *protocol.Error
	// SetMirrorState serves IncrementalAlterConfigs of mirror.state: ACTIVE, PAUSED, STOPPED,
	// PROMOTED.
	SetMirrorState(ctx context.Context, topic, state string, validateOnly bool) *protocol.Error
	// TopicsDeleted ends mirrors whose topics a client has just deleted through klink. It returns
	// once no snapshot contains them. A new mirror of the same name stays.
	TopicsDeleted(ctx context.Context, mirrors []DeletedMirror) error
}

// DeletedMirror names one mirror, and not a later one of the same name.
type DeletedMirror struct {
	Topic string
	ID    string // Mirror.ID
}

// Facts fetches facts that a decision needs and klink does not know yet. It is called off the event
// loops.
type Facts interface {
	// LearnTopicIDs looks up the names of topic ids and publishes them to the Directory. It
	// remembers for a short while which ids do not exist, so that a client cannot make klink ask
	// the cluster for every request.
	LearnTopicIDs(ctx context.Context, ids [][16]byte) error
	// LearnBrokers refreshes the destination's brokers, opens listeners for new ones and publishes
	// their addresses.
	LearnBrokers(ctx context.Context) error
	// LearnOffset reads the log of a partition at the destination and teaches line what it finds at
	// the offset physical:
	//   - The batch that holds physical if it counts, else the first batch after it that counts:
	//     LearnProbe for that batch, and for physical if the batch begins after it.
	//   - If physical is below the log start: LearnStart, and then the same from the log start on.
	//   - If no batch that counts follows: LearnStart and LearnEnd, and LearnProbe for the last
	//     batch that counts and for the end of the log.
	//
	// timeline.ProbeEnd asks for the end. A nil error means that the log was read, whatever was
	// found.
	LearnOffset(ctx context.Context, topic string, partition int32, line *timeline.Partition, physical int64) error
	// SeekTime corrects the offset found, the physical one at which a broker found a timestamp in a
	// partition of a mirror. If found is a record of the mirror, SeekTime returns it. If it is a
	// marker that klink wrote, or void, SeekTime looks for the first record after it with that
	// timestamp or a later one. It returns the physical offset and the timestamp of that record, or
	// -1 for both if there is none. The search is bounded. If it stops early, SeekTime returns the
	// physical offset that it reached, before which no record has such a timestamp, and the
	// timestamp -1.
	SeekTime(ctx context.Context, topic string, partition int32, line *timeline.Partition, found, timestamp int64) (physical, at int64, err error)
}
