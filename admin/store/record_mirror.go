package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"klink/admin/model"
)

// MirrorRecord is the value of mirror/TOPIC.
//
// It is written before the topic is created, so that no client can ever write to the topic through
// klink. Created is set after that; if a crash comes in between, the reconciler finishes the
// creation.
type MirrorRecord struct {
	// ID tells this mirror from an earlier one of the same topic.
	ID            string            `json:"id"`
	Link          string            `json:"link"`
	SourceTopic   string            `json:"source_topic"`
	Stamp         int               `json:"stamp"` // StampFormat
	SourceTopicID TopicID           `json:"source_topic_id"`
	TopicID       TopicID           `json:"topic_id"`
	State         model.MirrorState `json:"state"`
	Error         model.Error       `json:"error,omitempty"`
	ErrorMessage  string            `json:"error_message,omitempty"`
	StateTimeMs   int64             `json:"state_time_ms"`
	Partitions    int32             `json:"partitions"`
	Started       bool              `json:"started,omitempty"`
	OwnError      bool              `json:"own_error,omitempty"` // see mirrorStatus.Own
	// Promotion is null unless the mirror is being promoted, or was. During a promotion State still
	// says what the mirror does, so that a klink that does not know this field goes on mirroring:
	// it must not stop the mirror before the mirror has everything.
	Promotion *promotionRecord `json:"promotion,omitempty"`
	Created   bool             `json:"created,omitempty"`
	// TopicGone: the topic was deleted at the destination, not through klink. klink does not
	// translate offsets for a topic that has its name now.
	TopicGone bool `json:"topic_gone,omitempty"`
	// ReplicationFactor and Configs are what the topic is created with.
	ReplicationFactor int16             `json:"replication_factor,omitempty"`
	Configs           map[string]string `json:"configs,omitempty"`
	// CleanupPolicy is Mirror.CleanupPolicy.
	CleanupPolicy string `json:"cleanup_policy,omitempty"`
	// SourceConfigs are the source's values of configs for which a mirror needs values of its own;
	// null = the destination's default. klink sets them when the mirror is stopped.
	SourceConfigs map[string]*string `json:"source_configs,omitempty"`
	// RestorePending: stopped, but SourceConfigs are not set yet.
	RestorePending bool `json:"restore_pending,omitempty"`
	// Void lists where the log has records that do not count; VoidElsewhere: further partitions
	// have such records, too. See admin/cleaner.go.
	Void          []model.VoidBatches `json:"void,omitempty"`
	VoidElsewhere bool                `json:"void_elsewhere,omitempty"`

	unknown unknownFields
}

// promotionRecord is a promotion as stored.
type promotionRecord struct {
	ID         string `json:"id"`
	DeadlineMs int64  `json:"deadline_ms"`
	Ready      bool   `json:"ready,omitempty"`
}

// StampFormat is the version of the stamps of a mirror's batches (batch.Stamp), which a mirror
// keeps for good. Stamps from before this field existed had no place; those of version 2 could not
// follow an append that was not confirmed.
const StampFormat = 3

var errStampFormat = errors.New("was created by a development version whose stamps this version cannot read; delete the topic and re-create the mirror")

// maxPromotionID bounds the id of a promotion.
const maxPromotionID = 64

var mirrorStates = []model.MirrorState{
	model.MirrorPending, model.MirrorActive, model.MirrorPaused, model.MirrorLinkPaused, model.MirrorSourceUnavailable, model.MirrorPendingStopped, model.MirrorStopped, model.MirrorFailed,
}

func decodeMirror(value []byte) (*MirrorRecord, error) {
	r := &MirrorRecord{}
	unknown, err := decodeRecord(value, r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(mirrorStates, r.State) {
		return nil, fmt.Errorf("has the unknown state %.40q", r.State)
	}
	if r.Partitions < 0 || r.Partitions > MaxPartitions {
		return nil, fmt.Errorf("has %d partitions; at most %d are possible", r.Partitions, MaxPartitions)
	}
	if r.Stamp != StampFormat {
		return nil, errStampFormat
	}
	if err := r.checkVoid(); err != nil {
		return nil, err
	}
	if p := r.Promotion; p != nil {
		if p.ID == "" || len(p.ID) > maxPromotionID {
			return nil, errors.New("has a promotion without a proper id")
		}
		if !r.promotionCounts() {
			r.Promotion = nil
		}
	}
	r.unknown = unknown
	return r, nil
}

// promotionCounts reports whether Promotion still applies. It does not if an older klink has moved
// the mirror since: that leaves the promotion as it was.
func (r *MirrorRecord) promotionCounts() bool {
	switch r.State {
	case model.MirrorPending, model.MirrorActive, model.MirrorLinkPaused, model.MirrorSourceUnavailable:
		return !r.Promotion.Ready
	case model.MirrorPendingStopped, model.MirrorStopped:
		return r.Promotion.Ready
	}
	return false
}

func (r *MirrorRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

// Clone returns a copy that may be changed, except that Void, SourceConfigs' values and Promotion
// must be replaced, not changed in place.
func (r *MirrorRecord) Clone() *MirrorRecord {
	c := *r
	c.Configs = maps.Clone(r.Configs)
	c.SourceConfigs = maps.Clone(r.SourceConfigs)
	return &c
}

// Status returns what the state machine works with.
func (r *MirrorRecord) Status() model.MirrorStatus {
	s := model.MirrorStatus{State: r.State, Error: r.Error, Message: r.ErrorMessage, Started: r.Started, Own: r.OwnError}
	if p := r.Promotion; p != nil {
		s.Promotion = model.Promotion(*p)
	}
	return s
}

// SetStatus sets what the state machine has decided; now is the state's time if the state is a new
// one, or a promotion has begun or ended.
func (r *MirrorRecord) SetStatus(s model.MirrorStatus, now time.Time) {
	before := r.Status()
	if r.State != s.State || before.Promotion.UnderWay() != s.Promotion.UnderWay() {
		r.StateTimeMs = now.UnixMilli()
	}
	r.State, r.Error, r.ErrorMessage, r.Started, r.OwnError, r.Promotion = s.State, s.Error, s.Message, s.Started, s.Own, nil
	if s.Promotion != (model.Promotion{}) {
		p := promotionRecord(s.Promotion)
		r.Promotion = &p
	}
}

// View returns the mirror as it is published.
func (r *MirrorRecord) View(topic string) *model.Mirror {
	m := &model.Mirror{
		Topic: topic, ID: r.ID, TopicID: r.TopicID, Link: r.Link, SourceTopic: r.SourceTopic, SourceTopicID: r.SourceTopicID,
		State: r.State, Error: r.Error, ErrorMessage: r.ErrorMessage, StateTime: time.UnixMilli(r.StateTimeMs),
		Partitions: r.Partitions, Created: r.Created, LogAppendTime: r.logAppendTime(),
		CleanupPolicy: r.CleanupPolicy, ReplicationFactor: r.ReplicationFactor, Void: r.Void, VoidElsewhere: r.VoidElsewhere,
	}
	p := r.Status().Promotion
	m.Promoted = p.Ready
	if p.UnderWay() {
		m.Promotion, m.PromotionDeadline = p.ID, time.UnixMilli(p.DeadlineMs)
	}
	return m
}

// logAppendTime reports whether the source topic had that timestamp type; the mirror's own topic
// never has it.
func (r *MirrorRecord) logAppendTime() bool {
	own := r.SourceConfigs["message.timestamp.type"]
	return own != nil && *own == "LogAppendTime"
}
