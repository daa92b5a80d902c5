package store

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"klink/admin/model"
)

// LinkRecord is the value of link/NAME.
type LinkRecord struct {
	ID string `json:"id"`
	// Configs are the configs that were set. Sensitive ones are in Secrets instead; they are here
	// only without a key file and with --allow-plaintext-secrets.
	Configs         map[string]string `json:"configs"`
	Secrets         map[string]Sealed `json:"secrets,omitempty"`
	State           model.LinkState   `json:"state"`
	Error           model.Error       `json:"error,omitempty"`
	ErrorMessage    string            `json:"error_message,omitempty"`
	StateTimeMs     int64             `json:"state_time_ms"`
	SourceClusterID string            `json:"source_cluster_id,omitempty"`

	unknown unknownFields
}

var linkStates = []model.LinkState{model.LinkActive, model.LinkPaused, model.LinkUnavailable, model.LinkFailed}

func decodeLink(value []byte) (*LinkRecord, error) {
	r := &LinkRecord{}
	unknown, err := decodeRecord(value, r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(linkStates, r.State) {
		return nil, fmt.Errorf("has the unknown state %.40q", r.State)
	}
	r.unknown = unknown
	return r, nil
}

func (r *LinkRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

// Clone returns a copy that may be changed.
func (r *LinkRecord) Clone() *LinkRecord {
	c := *r
	c.Configs = maps.Clone(r.Configs)
	if c.Configs == nil {
		c.Configs = map[string]string{}
	}
	c.Secrets = maps.Clone(r.Secrets)
	return &c
}

// Status returns what the state machine works with.
func (r *LinkRecord) Status() model.LinkStatus {
	return model.LinkStatus{State: r.State, Error: r.Error, Message: r.ErrorMessage}
}

// SetStatus sets what the state machine has decided; now is the state's time if the state is a new
// one.
func (r *LinkRecord) SetStatus(s model.LinkStatus, now time.Time) {
	if r.State != s.State {
		r.StateTimeMs = now.UnixMilli()
	}
	r.State, r.Error, r.ErrorMessage = s.State, s.Error, s.Message
}

// View returns the link as it is published, with its secrets opened. A secret that does not open
// makes the link FAILED in this instance only: the record stays as it is, for an instance that has
// the key.
func (r *LinkRecord) View(name string, key *SecretsKey) *model.Link {
	l := &model.Link{
		Name: name, ID: r.ID, Configs: maps.Clone(r.Configs), State: r.State, Error: r.Error, ErrorMessage: r.ErrorMessage,
		StateTime: time.UnixMilli(r.StateTimeMs), SourceClusterID: r.SourceClusterID, Sealed: map[string]bool{},
	}
	if l.Configs == nil {
		l.Configs = map[string]string{}
	}
	for _, config := range slices.Sorted(maps.Keys(r.Secrets)) {
		l.Sealed[config] = true
		secret, err := key.Open(name, config, r.Secrets[config])
		if err != nil {
			l.State, l.Error, l.ErrorMessage = model.LinkFailed, model.ErrInternal, err.Error()
			continue
		}
		l.Configs[config] = secret
	}
	return l
}
