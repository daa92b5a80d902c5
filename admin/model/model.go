package model

import (
	"strings"
	"time"

	"klink/protocol/timeline"
)

// LinkState and MirrorState are the states of links and mirrors, as people see them: docs/state.md.
type (
	LinkState   string
	MirrorState string
)

// The states. docs/state.md has a table of what leads from one to the other.
const (
	LinkActive      LinkState = "ACTIVE"
	LinkPaused      LinkState = "PAUSED"
	LinkUnavailable LinkState = "UNAVAILABLE"
	LinkFailed      LinkState = "FAILED"

	MirrorPending           MirrorState = "PENDING_MIRROR"
	MirrorActive            MirrorState = "ACTIVE"
	MirrorPaused            MirrorState = "PAUSED"
	MirrorLinkPaused        MirrorState = "LINK_PAUSED"
	MirrorSourceUnavailable MirrorState = "SOURCE_UNAVAILABLE"
	MirrorPendingStopped    MirrorState = "PENDING_STOPPED"
	MirrorStopped           MirrorState = "STOPPED"
	MirrorFailed            MirrorState = "FAILED"
	// MirrorUnowned is shown for a mirror that is ACTIVE or PENDING_MIRROR while no instance copies
	// it; it is never stored.
	MirrorUnowned MirrorState = "UNOWNED"
)

// Error names a reason that a link or mirror is not ACTIVE.
type Error string

// The reasons.
const (
	ErrNone                Error = ""
	ErrAuthentication      Error = "AUTHENTICATION_ERROR"
	ErrAuthorization       Error = "AUTHORIZATION_ERROR"
	ErrBootstrapConnection Error = "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR"
	ErrTimeout             Error = "TIMEOUT_ERROR"
	// ErrBrokerUnreachable: the source answers, but a broker of it that leads a mirrored partition
	// cannot be used at the address that it advertises. The link is UNAVAILABLE, but it holds back
	// no mirror: those that need the broker say so themselves.
	ErrBrokerUnreachable Error = "BROKER_UNREACHABLE_ERROR"
	ErrInternal          Error = "INTERNAL_ERROR"
	// ErrSecurityDisabled: the source or the destination has no authorizer, and so no ACLs.
	ErrSecurityDisabled Error = "SECURITY_DISABLED"
	// ErrUnsupportedVersion: the brokers of the source or of the destination do not offer an API.
	ErrUnsupportedVersion Error = "UNSUPPORTED_VERSION"

	// ErrNoInstance: no instance of klink copies a mirror, though one should.
	ErrNoInstance Error = "NO_INSTANCE"

	ErrSourceTopicMayBeDeleted  Error = "SOURCE_TOPIC_MAY_BE_DELETED"
	ErrSourceTopicIDChanged     Error = "SOURCE_TOPIC_ID_CHANGED"
	ErrSourcePartitionsDecrease Error = "SOURCE_PARTITIONS_DECREASED"
	ErrUnexpectedTruncation     Error = "UNEXPECTED_TRUNCATION"
	ErrUnsupportedFormat        Error = "UNSUPPORTED_MESSAGE_FORMAT"
	ErrRecordTooLarge           Error = "RECORD_TOO_LARGE"
	ErrPolicyViolation          Error = "POLICY_VIOLATION"
	// ErrNotEnoughReplicas: fewer replicas of the mirror are in sync at the destination than its
	// min.insync.replicas asks for.
	ErrNotEnoughReplicas Error = "NOT_ENOUGH_REPLICAS"
	// ErrForeignWrite: somebody else appended to the topic at the destination while klink set the
	// mirror up.
	ErrForeignWrite Error = "FOREIGN_WRITE"
	// ErrRecordsCompacted: the destination's log cleaner has removed records of the mirror in
	// favour of void ones (records that do not count).
	ErrRecordsCompacted Error = "RECORDS_COMPACTED"
	// ErrBatchRewritten: the destination does not store the mirror's batches as klink appended
	// them: they lack their stamps, or have other timestamps.
	ErrBatchRewritten Error = "BATCH_REWRITTEN"
	// ErrStampFormat: the mirror has stamps of another version of klink.
	ErrStampFormat Error = "STAMP_FORMAT"
	// ErrMirrorTopicDeleted: the mirror's topic was deleted at the destination, not through klink.
	// If a topic has that name now, it is a different one.
	ErrMirrorTopicDeleted Error = "MIRROR_TOPIC_DELETED"
	// ErrGroupInUse: a group whose offsets klink should sync is active at the destination. Only
	// tasks report it.
	ErrGroupInUse Error = "CONSUMER_GROUP_IN_USE_ERROR"
	// ErrLeftOut: a task leaves something out because a rule of klink's forbids it. It is reported
	// like an error, but is not one.
	ErrLeftOut Error = "LEFT_OUT"
	// ErrTopicExists: a mirror cannot be created because an ordinary topic has its name. Only tasks
	// report it.
	ErrTopicExists Error = "TOPIC_EXISTS_ERROR"
	// ErrSourceClusterChanged: the cluster at the source's address is not the one that the link was
	// made for.
	ErrSourceClusterChanged Error = "SOURCE_CLUSTER_CHANGED"
)

// Link is a link as stored. Immutable once published.
type Link struct {
	Name            string
	ID              string            // uuid
	Configs         map[string]string // only what was set, decrypted
	State           LinkState
	Error           Error
	ErrorMessage    string
	StateTime       time.Time
	SourceClusterID string
	Sealed          map[string]bool // the configs that are stored as secrets
}

// Mirror is a mirror as stored. Immutable once published.
type Mirror struct {
	Topic         string
	ID            string   // unique to this mirror: no earlier or later mirror of its name has it
	TopicID       [16]byte // destination topic; zero until created
	Link          string
	SourceTopic   string
	SourceTopicID [16]byte // zero when the source has no topic ids
	State         MirrorState
	Error         Error
	ErrorMessage  string
	StateTime     time.Time
	Partitions    int32
	// ReplicationFactor is the one that klink asked for when it created the topic; 0 or -1 = the
	// brokers' default, or the topic existed already.
	ReplicationFactor int16
	// Promotion names the promotion that is under way, "" = none. The mirror still does what State
	// says, and klink stops it as soon as it has everything that its source has. If that does not
	// happen before PromotionDeadline, the promotion is cancelled. See Shown.
	Promotion         string
	PromotionDeadline time.Time
	Promoted          bool // it had everything that its source has; it is being stopped, or was
	// Created is false until the topic exists at the destination; nothing may be appended before.
	Created bool
	// LogAppendTime: the source topic had message.timestamp.type=LogAppendTime when the mirror was
	// created.
	LogAppendTime bool
	// CleanupPolicy is the cleanup.policy of the topic at the destination, as klink last set it.
	// One that includes "compact" is stored before klink sets it. "" = not known.
	CleanupPolicy string
	// Void lists where the log has records that do not count, by partition. VoidElsewhere: further
	// partitions, which Void does not name, have such records, too. The slice is immutable.
	Void          []VoidBatches
	VoidElsewhere bool
	// Ended says for which partitions it is stored that nothing more will be appended to them
	// (EventPartitionsEnded); nil = for none.
	Ended []bool
	// EndedAt are the physical offsets at which they ended, by partition, -1 = not known.
	EndedAt []int64
}

// HasEnded reports whether it is stored that nothing more will be appended to a partition of a
// mirror that is being stopped. The coordinator stores this for its own partitions only when the
// whole mirror has ended.
func (m *Mirror) HasEnded(partition int32) bool {
	return int(partition) < len(m.Ended) && m.Ended[partition]
}

// Shown returns the state that people see: PENDING_STOPPED while the mirror is being promoted.
func (m *Mirror) Shown() MirrorState { return shownState(m.State, m.Promotion != "") }

// State is an immutable snapshot of all links and mirrors.
type State struct {
	Links   map[string]*Link
	Mirrors map[string]*Mirror // by destination topic
	// Timelines holds, by destination topic, one timeline per partition of each mirror whose topic
	// is Created: without its timelines no instance appends to a mirror. The slices are immutable,
	// the timelines move.
	Timelines map[string][]*timeline.Partition
	// Uncreated holds the timelines of the other mirrors. The router needs them before the topic
	// exists.
	Uncreated map[string][]*timeline.Partition
	// Recorded maps each mirror whose topic is not Created to the offset of its record in the state
	// topic. The other instances wait until this one has acknowledged that offset.
	Recorded map[string]int64
}

// EventKind is the kind of a finding of the replicator.
type EventKind uint8

const (
	// EventLinkUp: the source answers. The link becomes ACTIVE, and the mirrors that are
	// SOURCE_UNAVAILABLE because of the link go on.
	EventLinkUp EventKind = iota
	// EventLinkDown: the source cannot be reached or refuses; Error and Message say why.
	EventLinkDown
	// EventMirrorStarted: every partition of a pending mirror has an owner that fetches.
	EventMirrorStarted
	// EventMirrorUnavailable: the source has no such topic for now (SOURCE_TOPIC_MAY_BE_DELETED),
	// or appends have to wait (AUTHORIZATION_ERROR, NOT_ENOUGH_REPLICAS, and also RECORD_TOO_LARGE
	// and UNSUPPORTED_MESSAGE_FORMAT while klink cannot set the configs that may be the cause to
	// the source's values). The replicator retries.
	EventMirrorUnavailable
	// EventMirrorRecovered: an unavailable mirror fetches again.
	EventMirrorRecovered
	// EventMirrorFailed: the mirror cannot go on faithfully; data is kept.
	EventMirrorFailed
	// EventMirrorDrained: after PENDING_STOPPED, no append is in flight and none will be made.
	// Ended says where the coordinator's own partitions end. The owners of the others must have
	// stored theirs (EventPartitionsEnded).
	EventMirrorDrained
	// EventMirrorCaughtUp: a mirror that is being promoted has everything that its source has.
	// Promotion names the promotion for which that was found.
	EventMirrorCaughtUp
	// EventPartitionsEnded: after PENDING_STOPPED, no append is in flight to the partitions in
	// Ended and none will be made. Their owner reports it, and the coordinator waits for the
	// report.
	EventPartitionsEnded
	// EventMirrorVoid: the log of a partition has records that do not count; Void says where. The
	// mirror is not compacted from then on.
	EventMirrorVoid
)

// Start is where a new partition of a mirror begins: its physical offset 0 is the logical offset
// Logical, and nothing below Floor is shown.
type Start struct {
	Partition int32
	Logical   int64
	Floor     int64
}

// Checkpoint pairs a physical and a logical offset of a partition. Every record from Physical on is
// at or above Logical, and every record before Physical is below Logical. When no batch is left in
// the log, the owner goes on at Logical.
//
// The last batch of the source that lies before the logical offset was written in leader epoch
// Epoch and ends at EpochEnd (logical, at most Logical); EpochEnd 0 = not known. It need not be in
// the mirror: it may be a transaction marker.
type Checkpoint struct {
	Topic     string
	Partition int32
	Physical  int64
	Logical   int64
	Epoch     int32
	EpochEnd  int64
	// Straight: every physical offset from the start of the timeline to here holds exactly the next
	// logical one.
	Straight bool
}

// Event is a finding of the replicator about a link or a mirror.
type Event struct {
	Kind            EventKind
	Link            string
	Topic           string
	Error           Error
	Message         string
	SourceClusterID string // with EventLinkUp
	Promotion       string // with EventMirrorCaughtUp
	// Mirror is the mirror's ID, with EventMirrorDrained and EventPartitionsEnded; "" = whichever
	// mirror has the name.
	Mirror string
	// Partition is the partition whose owner reports the event, -1 = the coordinator reports it;
	// with EventMirrorFailed and EventPartitionsEnded.
	Partition int32
	// Ended are partitions that this instance has ended, with EventMirrorDrained and
	// EventPartitionsEnded.
	Ended []PartitionEnd
	// PhysicalEnds are the physical ends, by partition, of logs that the coordinator looked at once
	// all partitions had ended, with EventMirrorDrained; -1 or missing = as Ended says. Void
	// batches at the end of a log belong to the mirror.
	PhysicalEnds []int64
	// Void is what was found, with EventMirrorVoid.
	Void VoidBatches
	// Unrepaired says why the records that void batches could displace under compaction were not
	// appended anew, with EventMirrorDrained; "" = they were, or nothing is void. Message, with
	// EventMirrorDrained, is what people have to know about the end.
	Unrepaired string
}

// PartitionEnd is where a partition of a mirror ends. Its owner knows that nothing is in flight to
// it and nothing will be appended. Offsets are -1 where they are not known.
type PartitionEnd struct {
	Partition int32
	// Logical is the source's end if the mirror has everything, even if that end is behind a hole.
	Logical, Physical int64
}

// PartitionStatus is what the replicator knows about one partition right now. Offsets are logical,
// -1 = unknown.
//
// If the fields from SourceLastStable on are all zero, they count as unknown, too. A replicator
// that fills them never leaves all of them zero: an aligned partition has ShiftBegan = -1.
type PartitionStatus struct {
	SourceEnd int64
	MirrorEnd int64
	LastFetch time.Time // zero = never
	// CaughtUp is when the mirror last had everything that its source had, as far as known; zero =
	// unknown.
	CaughtUp time.Time

	SourceLastStable int64 // below SourceEnd while a transaction is open at the source
	SourceStart      int64 // log start offset
	MirrorStart      int64
	ShiftBegan       int64  // where logical and physical offsets began to differ; -1 = never
	ShiftReason      string // why, for people
	Joined           int64  // batches that were appended as a part of another, since the owner took over
}

// Detailed reports whether the fields from SourceLastStable on were filled in.
func (p PartitionStatus) Detailed() bool {
	return p.SourceLastStable != 0 || p.SourceStart != 0 || p.MirrorStart != 0 || p.ShiftBegan != 0 || p.ShiftReason != ""
}

// TaskReporter is a Reporter that also knows the status of the tasks of links that other instances
// own.
type TaskReporter interface {
	// LinkTasks returns the task status that the owner of a link has reported, without intervals
	// and states.
	LinkTasks(link string) []TaskStatus
}

// DriftReporter is a Reporter that also knows the config drift of mirrors whose links other
// instances own.
type DriftReporter interface {
	// ConfigDrift returns the drift that the owner has reported for a mirror; nil = none, or not
	// known. The caller must not change it.
	ConfigDrift(topic string) []ConfigDrift
}

// OwnerReporter is a Reporter that knows whether some instance copies a mirror.
type OwnerReporter interface {
	// Unowned says, for people, why no instance copies a mirror; "" = one does, or did a moment
	// ago.
	Unowned(topic string) string
}

// Reporter answers from the replicator's memory; safe for concurrent use.
type Reporter interface {
	// Status returns one entry per partition, nil if the topic is not replicated here.
	Status(topic string) []PartitionStatus
}

// VoidBatches describes the void batches in the log of one partition of a mirror. The cleaner must
// not get to them. Offsets are physical.
type VoidBatches struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`    // base offset of the first one
	To        int64 `json:"to"`      // all known ones end here, or before
	Offsets   int64 `json:"offsets"` // how many offsets they take
	Foreign   int64 `json:"foreign"` // how many of these somebody else wrote
	// Safe: as far as the log and the source tell, the cleaner has removed no record that counts
	// because of these batches.
	Safe bool `json:"safe,omitempty"`
}

// ConfigDrift is a config of a mirror that differs from the source's and does not follow it. A nil
// value = that cluster has no value for it.
type ConfigDrift struct {
	Name           string
	Source, Mirror *string
}

// HasVoid reports whether the log of the mirror has void batches, so that it must not be compacted.
func (m *Mirror) HasVoid() bool { return len(m.Void) > 0 || m.VoidElsewhere }

// CompactionRests reports whether the mirror's topic has a cleanup policy with compaction, but is
// not compacted because its log has void batches.
func (m *Mirror) CompactionRests() bool {
	return m.HasVoid() && m.State != MirrorStopped && Compacts(m.CleanupPolicy)
}

// Compacts reports whether a cleanup policy has compaction.
func Compacts(policy string) bool { return strings.Contains(policy, "compact") }
