package admin

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// mirrorRecord is the value of mirror/TOPIC.
//
// It is written before the topic is created, so that nobody can write to the topic through klink at any time; Created
// then follows. A crash in between is made good by the reconciler.
type mirrorRecord struct {
	// ID tells this mirror from an earlier one of the same topic.
	ID            string      `json:"id"`
	Link          string      `json:"link"`
	SourceTopic   string      `json:"source_topic"`
	SourceTopicID topicID     `json:"source_topic_id"`
	TopicID       topicID     `json:"topic_id"`
	State         MirrorState `json:"state"`
	Error         Error       `json:"error,omitempty"`
	ErrorMessage  string      `json:"error_message,omitempty"`
	StateTimeMs   int64       `json:"state_time_ms"`
	Partitions    int32       `json:"partitions"`
	Started       bool        `json:"started,omitempty"`
	OwnError      bool        `json:"own_error,omitempty"` // see mirrorStatus.Own
	Created       bool        `json:"created,omitempty"`
	// TopicGone: the topic was deleted at the destination, not through klink. What has its name now is not translated.
	TopicGone bool `json:"topic_gone,omitempty"`
	// ReplicationFactor and Configs are what the topic is created with.
	ReplicationFactor int16             `json:"replication_factor,omitempty"`
	Configs           map[string]string `json:"configs,omitempty"`
	// SourceConfigs are the source's values of configs that a mirror must have otherwise; null = the destination's
	// default. They are set when the mirror is stopped.
	SourceConfigs map[string]*string `json:"source_configs,omitempty"`
	// RestorePending: stopped, but SourceConfigs are not set yet.
	RestorePending bool `json:"restore_pending,omitempty"`

	unknown unknownFields
}

var mirrorStates = []MirrorState{
	MirrorPending, MirrorActive, MirrorPaused, MirrorLinkPaused, MirrorSourceUnavailable, MirrorPendingStopped, MirrorStopped, MirrorFailed,
}

func decodeMirror(value []byte) (*mirrorRecord, error) {
	r := &mirrorRecord{}
	unknown, err := decodeRecord(value, r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(mirrorStates, r.State) {
		return nil, fmt.Errorf("has the unknown state %.40q", r.State)
	}
	if r.Partitions < 0 || r.Partitions > maxPartitions {
		return nil, fmt.Errorf("has %d partitions; at most %d are possible", r.Partitions, maxPartitions)
	}
	r.unknown = unknown
	return r, nil
}

func (r *mirrorRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

func (r *mirrorRecord) clone() *mirrorRecord {
	c := *r
	c.Configs = maps.Clone(r.Configs)
	c.SourceConfigs = maps.Clone(r.SourceConfigs)
	return &c
}

func (r *mirrorRecord) status() mirrorStatus {
	return mirrorStatus{State: r.State, Error: r.Error, Message: r.ErrorMessage, Started: r.Started, Own: r.OwnError}
}

func (r *mirrorRecord) setStatus(s mirrorStatus, now time.Time) {
	if r.State != s.State {
		r.StateTimeMs = now.UnixMilli()
	}
	r.State, r.Error, r.ErrorMessage, r.Started, r.OwnError = s.State, s.Error, s.Message, s.Started, s.Own
}

func (r *mirrorRecord) view(topic string) *Mirror {
	return &Mirror{
		Topic: topic, TopicID: r.TopicID, Link: r.Link, SourceTopic: r.SourceTopic, SourceTopicID: r.SourceTopicID,
		State: r.State, Error: r.Error, ErrorMessage: r.ErrorMessage, StateTime: time.UnixMilli(r.StateTimeMs),
		Partitions: r.Partitions, Created: r.Created, LogAppendTime: r.logAppendTime(),
	}
}

// logAppendTime says whether the source topic was of that timestamp type; a mirror never is.
func (r *mirrorRecord) logAppendTime() bool {
	own := r.SourceConfigs["message.timestamp.type"]
	return own != nil && *own == "LogAppendTime"
}
