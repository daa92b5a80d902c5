package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"klink/admin/aclsync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// aclsRecord is the value of acls/LINK/BUCKET: ACLs that klink has created at the destination for a
// link, or was about to create. klink writes an ACL here before it creates it, so that it always
// recognises the ACLs that it created. It removes an ACL from here after it has deleted it.
//
// The ACLs of a link are spread by a hash over aclBuckets records, so that a change rewrites little
// and no record gets too large for a broker.
type aclsRecord struct {
	// LinkID tells a link from an earlier one of the same name. An older klink may have deleted
	// that one and left its ACL records.
	LinkID string     `json:"link_id"`
	ACLs   []ACLEntry `json:"acls"` // in order

	unknown unknownFields
}

// ACLEntry is a remembered ACL.
type ACLEntry struct {
	aclsync.Binding
	// run names the run that last decided to create the ACL. A run that deletes the ACL forgets it
	// only if no other run has decided to create it since.
	Run string
	// made: the creation has succeeded. Before that the run may be about to create it.
	Made bool
	// raw is the entry as it was read, so that fields which this version does not know survive; nil
	// = this version made it.
	raw json.RawMessage
}

type aclEntryJSON struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	Pattern    string `json:"pattern"`
	Principal  string `json:"principal"`
	Host       string `json:"host"`
	Operation  string `json:"operation"`
	Permission string `json:"permission"`
	Run        string `json:"run"`
	Made       bool   `json:"made,omitempty"`
}

// ACLMark tells a run whether a remembered ACL has changed since the run read it.
type ACLMark struct {
	Run  string
	made bool
}

// Mark returns the mark of the entry as it is now.
func (e ACLEntry) Mark() ACLMark { return ACLMark{e.Run, e.Made} }

const (
	aclBuckets = 64
	// maxACLsRecordBytes leaves room below the 1 MiB that a broker takes by default. With 64
	// buckets that is about 300,000 ACLs.
	maxACLsRecordBytes = 900 << 10
)

func (e ACLEntry) MarshalJSON() ([]byte, error) {
	if e.raw != nil {
		return e.raw, nil
	}
	w := e.Wire()
	return json.Marshal(aclEntryJSON{
		Type: w.ResourceType, Name: w.ResourceName, Pattern: w.PatternType, Principal: w.Principal, Host: w.Host,
		Operation: w.Operation, Permission: w.PermissionType, Run: e.Run, Made: e.Made,
	})
}

func (e *ACLEntry) UnmarshalJSON(raw []byte) (err error) {
	var j aclEntryJSON
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	*e = ACLEntry{Binding: aclsync.Binding{Name: j.Name, Principal: j.Principal, Host: j.Host}, Run: j.Run, Made: j.Made, raw: slices.Clone(raw)}
	if e.ResourceType, err = aclsync.ParseValue[kmsg.ACLResourceType](aclsync.ResourceNames, j.Type); err != nil {
		return err
	}
	if e.Pattern, err = aclsync.ParseValue[kmsg.ACLResourcePatternType](aclsync.PatternNames, j.Pattern); err != nil {
		return err
	}
	if e.Operation, err = aclsync.ParseValue[kmsg.ACLOperation](aclsync.OperationNames, j.Operation); err != nil {
		return err
	}
	if e.Permission, err = aclsync.ParseValue[kmsg.ACLPermissionType](aclsync.PermissionNames, j.Permission); err != nil {
		return err
	}
	return e.Check()
}

func decodeACLs(value []byte) (*aclsRecord, error) {
	r := &aclsRecord{}
	unknown, err := decodeRecord(value, r)
	if err != nil {
		return nil, err
	}
	r.unknown = unknown
	return r, nil
}

func (r *aclsRecord) encode() ([]byte, error) {
	value, err := encodeRecord(r, r.unknown)
	if err == nil && len(value) > maxACLsRecordBytes {
		return nil, fmt.Errorf("%d ACLs of one link belong in one record of %s, which would be too large (%d bytes): narrow acl.filters", len(r.ACLs), StateTopic, len(value))
	}
	return value, err
}
