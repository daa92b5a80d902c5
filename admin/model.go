// Package admin is klink's control plane: links and mirrors, their configs, their state machine and
// its durable store in a compacted topic of the destination, and the service that answers the link
// API. It publishes immutable snapshots to the router and to the replicator.
package admin

import (
	"time"

	"klink/protocol/timeline"
)

// LinkState and MirrorState are the states of DESIGN section 7, as shown to people.
type (
	LinkState   string
	MirrorState string
)

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
	// MirrorUnowned is shown of a mirror that is ACTIVE or PENDING_MIRROR but that no instance
	// copies; it is not stored.
	MirrorUnowned MirrorState = "UNOWNED"
)

// Error names a reason that a link or mirror is not ACTIVE.
type Error string

const (
	ErrNone                Error = ""
	ErrAuthentication      Error = "AUTHENTICATION_ERROR"
	ErrAuthorization       Error = "AUTHORIZATION_ERROR"
	ErrBootstrapConnection Error = "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR"
	ErrTimeout             Error = "TIMEOUT_ERROR"
	ErrInternal            Error = "INTERNAL_ERROR"
	// ErrSecurityDisabled: the source or the destination has no authorizer, and so no ACLs.
	ErrSecurityDisabled Error = "SECURITY_DISABLED"

	// ErrNoInstance: no instance of klink copies a mirror, though it is to be copied.
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
	// ErrForeignWrite: while klink set the mirror up, somebody else appended to it at the
	// destination.
	ErrForeignWrite Error = "FOREIGN_WRITE"
	// ErrRecordsCompacted: the destination's cleaner has removed records of the mirror in favour of
	// such as do not count.
	ErrRecordsCompacted Error = "RECORDS_COMPACTED"
	// ErrBatchRewritten: the destination stores batches of the mirror otherwise than klink appended
	// them: without their stamps, or with other timestamps.
	ErrBatchRewritten Error = "BATCH_REWRITTEN"
	// ErrStampFormat: the mirror has stamps of another version of klink.
	ErrStampFormat Error = "STAMP_FORMAT"
	// ErrMirrorTopicDeleted: the mirror's topic was deleted at the destination, not through klink;
	// a topic that has its name now is another one.
	ErrMirrorTopicDeleted Error = "MIRROR_TOPIC_DELETED"
	// ErrGroupInUse: a group whose offsets were to be synced is active at the destination. (An
	// error of a task only.)
	ErrGroupInUse Error = "CONSUMER_GROUP_IN_USE_ERROR"
	// ErrLeftOut: a task does not do what a rule of klink's forbids. It is told like an error, and
	// is none.
	ErrLeftOut Error = "LEFT_OUT"
	// ErrTopicExists: a mirror cannot be created because an ordinary topic has its name; of a task.
	ErrTopicExists Error = "TOPIC_EXISTS_ERROR"
	// ErrSourceClusterChanged: another cluster than the link was made for answers at the source's
	// address.
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
	sealed          map[string]bool // the configs that are stored as secrets
}

// Mirror is a mirror as stored. Immutable once published.
type Mirror struct {
	Topic         string
	ID            string   // of this mirror, and of no other one that had, or will have, its name
	TopicID       [16]byte // destination topic; zero until created
	Link          string
	SourceTopic   string
	SourceTopicID [16]byte // zero when the source has no topic ids
	State         MirrorState
	Error         Error
	ErrorMessage  string
	StateTime     time.Time
	Partitions    int32
	// ReplicationFactor is what the topic was asked to have when it was created; 0 or -1 = the
	// brokers' default, or it was there.
	ReplicationFactor int16
	// Promotion names the promotion that is under way, "" = none: the mirror does what State says,
	// and is to be stopped as soon as it has everything that its source has, unless that is not
	// before PromotionDeadline. See Shown.
	Promotion         string
	PromotionDeadline time.Time
	promoted          bool // it was found to have everything, and is being stopped or was
	// Created is false until the topic exists at the destination; nothing may be appended before.
	Created bool
	// LogAppendTime: the source topic had message.timestamp.type=LogAppendTime when the mirror was
	// created.
	LogAppendTime bool
	// CleanupPolicy is the cleanup.policy that the topic has at the destination, as klink has set
	// it last, or, where it includes "compact", is about to set it; "" = not known.
	CleanupPolicy string
	// Void is where the log has records that do not count, by partition; VoidElsewhere: in further
	// partitions, too, which are not named. The slice is immutable.
	Void          []VoidBatches
	VoidElsewhere bool
	// Ended says of which partitions it is stored that nothing will be appended to them
	// (EventPartitionsEnded); nil = of none.
	Ended []bool
	// EndedAt are the physical offsets at which they ended, by partition, -1 = not known.
	EndedAt []int64
}

// HasEnded says whether it is stored that nothing will be appended to a partition of a mirror that
// is being stopped. The coordinator stores that of its own partitions only when the whole mirror
// has ended.
func (m *Mirror) HasEnded(partition int32) bool {
	return int(partition) < len(m.Ended) && m.Ended[partition]
}

// Shown is the state that people see: PENDING_STOPPED of a mirror that is being promoted.
func (m *Mirror) Shown() MirrorState { return shownState(m.State, m.Promotion != "") }

// State is an immutable picture of all links and mirrors.
type State struct {
	Links   map[string]*Link
	Mirrors map[string]*Mirror // by destination topic
	// Timelines by destination topic, one per partition, of mirrors whose topic is Created: without
	// its timelines nobody appends to a mirror. The slices are immutable, the timelines move.
	Timelines map[string][]*timeline.Partition
	// uncreated are the timelines of the other mirrors, which the router needs before the topic is
	// there.
	uncreated map[string][]*timeline.Partition
	// recorded are the offsets of the records of mirrors whose topic is not Created: the other
	// instances wait until this one knows them.
	recorded map[string]int64
}

// EventKind says what the replicator found.
type EventKind uint8

const (
	// EventLinkUp: the source answers. Sets the link ACTIVE, and its SOURCE_UNAVAILABLE mirrors
	// back.
	EventLinkUp EventKind = iota
	// EventLinkDown: the source cannot be reached or refuses; Error and Message say why.
	EventLinkDown
	// EventMirrorStarted: every partition of a pending mirror has an owner that fetches.
	EventMirrorStarted
	// EventMirrorUnavailable: the source has no such topic for now (SOURCE_TOPIC_MAY_BE_DELETED),
	// or appends have to wait (AUTHORIZATION_ERROR, NOT_ENOUGH_REPLICAS; RECORD_TOO_LARGE and
	// UNSUPPORTED_MESSAGE_FORMAT while the configs that may be the cause cannot be made those of
	// the source); retried.
	EventMirrorUnavailable
	// EventMirrorRecovered: an unavailable mirror fetches again.
	EventMirrorRecovered
	// EventMirrorFailed: the mirror cannot go on faithfully; data is kept.
	EventMirrorFailed
	// EventMirrorDrained: after PENDING_STOPPED, no append is in flight or will be made. Ended says
	// where the partitions end that the coordinator has ended; those of the others must be stored
	// (EventPartitionsEnded).
	EventMirrorDrained
	// EventMirrorCaughtUp: a mirror that is being promoted has everything that its source has.
	// Promotion says which promotion it was found for.
	EventMirrorCaughtUp
	// EventPartitionsEnded: after PENDING_STOPPED, of the partitions in Ended no append is in
	// flight or will be made. Who owns them tells; the coordinator waits for that.
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

// Checkpoint says of a partition that every record from the physical offset on is at or above the
// logical one, and every record before it below. Where no batch is left in the log it tells at
// which logical offset to go on.
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
	// has the name.
	Mirror string
	// Partition is one of the mirror whose owner tells, -1 = its coordinator does; with
	// EventMirrorFailed and EventPartitionsEnded.
	Partition int32
	// Ended are partitions that this instance has ended, with EventMirrorDrained and
	// EventPartitionsEnded.
	Ended []PartitionEnd
	// PhysicalEnds are where the partitions end whose logs were looked at once all had ended, with
	// EventMirrorDrained: by partition, -1 or missing = as Ended says. What is void at the end of a
	// log is the mirror's.
	PhysicalEnds []int64
	// Void is what was found, with EventMirrorVoid.
	Void VoidBatches
	// Unrepaired is why what void batches may take the place of was not appended anew, with
	// EventMirrorDrained; "" = it was, or there is nothing void. Message, with EventMirrorDrained,
	// is what people have to know of the end.
	Unrepaired string
}

// PartitionEnd is where a partition of a mirror ends, of which its owner knows that nothing is in
// flight and nothing will be appended. Offsets are -1 where they are not known.
type PartitionEnd struct {
	Partition int32
	// Logical is the source's end of a mirror that has everything, even if that is behind a hole.
	Logical, Physical int64
}

// PartitionStatus is what the replicator knows of one partition right now. Offsets are logical, -1
// = unknown.
//
// The fields from SourceLastStable on count as unknown, too, when all of them are zero. A partition
// that is aligned has ShiftBegan = -1, so this is no state that a replicator which fills them could
// mean.
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
	ShiftBegan       int64  // from where logical and physical offsets have differed; -1 = they never did
	ShiftReason      string // why, for people
	Joined           int64  // batches that were appended as a part of another, since the owner took over
}

// detailed says whether the fields from SourceLastStable on were filled in.
func (p PartitionStatus) detailed() bool {
	return p.SourceLastStable != 0 || p.SourceStart != 0 || p.MirrorStart != 0 || p.ShiftBegan != 0 || p.ShiftReason != ""
}

// TaskReporter is a Reporter that knows how the tasks of links do that another instance owns.
type TaskReporter interface {
	// LinkTasks returns what was told of the tasks of a link; their intervals and states are not
	// filled in.
	LinkTasks(link string) []TaskStatus
}

// DriftReporter is a Reporter that knows the config drift of mirrors of links that another instance
// owns.
type DriftReporter interface {
	// ConfigDrift returns what was told of the drift of a mirror, which is not to be changed; nil =
	// none, or not known.
	ConfigDrift(topic string) []ConfigDrift
}

// OwnerReporter is a Reporter that knows whether some instance copies a mirror.
type OwnerReporter interface {
	// Unowned says why a mirror is copied by nobody, for people; "" = an instance copies it, or did
	// a moment ago.
	Unowned(topic string) string
}

// Reporter answers from the replicator's memory; safe for concurrent use.
type Reporter interface {
	// Status returns one entry per partition, nil if the topic is not replicated here.
	Status(topic string) []PartitionStatus
}
