// Package linkapi has the messages of klink's link administration: Kafka API keys 15000 to 15015,
// flexible from version 0, documented in docs/protocol.md. Each request implements kmsg.Request and
// each response kmsg.Response, so that kgo.Client.Request sends them (with kgo.MaxVersions(nil)).
// Every klink instance answers them; they need not go to a controller.
//
// One file per message has its structs, in the order of the fields on the wire, and their codec.
// What all of them have is embedded (Head, ResponseHead in shared.go). Version is not in the body:
// it stands in the request header.
package linkapi

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The API keys. 15013 to 15015 are reserved.
const (
	KeyCreateLinks      int16 = 15000
	KeyDeleteLinks      int16 = 15001
	KeyListLinks        int16 = 15002
	KeyDescribeLinks    int16 = 15003
	KeyAlterLinkConfigs int16 = 15004
	KeyCreateMirrors    int16 = 15005
	KeyListMirrors      int16 = 15006
	KeyDescribeMirrors  int16 = 15007
	KeyAlterMirrors     int16 = 15008
	KeyListLinkTasks    int16 = 15009
	KeyMigrateGroups    int16 = 15010
	KeySyncACLs         int16 = 15011
	KeyCheckCluster     int16 = 15012
	MinKey                    = KeyCreateLinks
	MaxKey                    = KeyCheckCluster
)

// API is one row of the table of link APIs.
type API struct {
	Key      int16
	Name     string
	Min, Max int16 // versions; all of them are flexible
	// Alter: the API changes something, and so needs ALTER on the cluster; the others need
	// DESCRIBE.
	Alter bool

	request func() Request
}

// Request is a request of the link API.
type Request interface {
	kmsg.Request
	// Denied returns the response that gives this error for everything that the request names, and
	// for the request as a whole if the response can say that.
	Denied(code int16, message *string) kmsg.Response
}

var apis = [...]API{
	{Key: KeyCreateLinks, Name: "CreateLinks", Alter: true, request: func() Request { return new(CreateLinksRequest) }},
	{Key: KeyDeleteLinks, Name: "DeleteLinks", Alter: true, request: func() Request { return new(DeleteLinksRequest) }},
	{Key: KeyListLinks, Name: "ListLinks", request: func() Request { return new(ListLinksRequest) }},
	{Key: KeyDescribeLinks, Name: "DescribeLinks", request: func() Request { return new(DescribeLinksRequest) }},
	{Key: KeyAlterLinkConfigs, Name: "AlterLinkConfigs", Alter: true, request: func() Request { return new(AlterLinkConfigsRequest) }},
	{Key: KeyCreateMirrors, Name: "CreateMirrors", Alter: true, request: func() Request { return new(CreateMirrorsRequest) }},
	{Key: KeyListMirrors, Name: "ListMirrors", request: func() Request { return new(ListMirrorsRequest) }},
	{Key: KeyDescribeMirrors, Name: "DescribeMirrors", request: func() Request { return new(DescribeMirrorsRequest) }},
	{Key: KeyAlterMirrors, Name: "AlterMirrors", Alter: true, request: func() Request { return new(AlterMirrorsRequest) }},
	{Key: KeyListLinkTasks, Name: "ListLinkTasks", request: func() Request { return new(ListLinkTasksRequest) }},
	{Key: KeyMigrateGroups, Name: "MigrateGroups", Alter: true, request: func() Request { return new(MigrateGroupsRequest) }},
	{Key: KeySyncACLs, Name: "SyncACLs", Alter: true, request: func() Request { return new(SyncACLsRequest) }},
	{Key: KeyCheckCluster, Name: "CheckCluster", request: func() Request { return new(CheckClusterRequest) }},
}

// APIs returns the link APIs in the order of their keys, as ApiVersions offers them. The caller
// owns the slice.
func APIs() []API { return append([]API(nil), apis[:]...) }

// Lookup returns the row of a key.
func Lookup(key int16) (API, bool) {
	if key < MinKey || key > MaxKey {
		return API{}, false
	}
	return apis[key-MinKey], true
}

// Name returns the name of a link API, or the key as a number if it is none.
func Name(key int16) string {
	if a, ok := Lookup(key); ok {
		return a.Name
	}
	return fmt.Sprint(key)
}

// NewRequest returns an empty request of a link API; ok is false for other keys.
func NewRequest(key int16) (req Request, ok bool) {
	a, ok := Lookup(key)
	if !ok {
		return nil, false
	}
	return a.request(), true
}

// MaxRequestBytes bounds the body of a request. An empty string of one byte on the wire takes 16
// bytes in memory, so a bound on the frame alone would let a client make klink allocate too much.
const MaxRequestBytes = 4 << 20

// ReadRequest reads the body of a request, without its header. It is for servers, so the body may
// hold anything. Errors about the bytes wrap ErrMalformed. A key or version that klink does not
// offer is an error too. ReadRequest does not keep body.
func ReadRequest(key, version int16, body []byte) (Request, error) {
	a, ok := Lookup(key)
	if !ok {
		return nil, fmt.Errorf("API key %d is not of the link API (%d to %d)", key, MinKey, MaxKey)
	}
	if version < a.Min || version > a.Max {
		return nil, fmt.Errorf("version %d of %s is not offered (%d to %d are)", version, a.Name, a.Min, a.Max)
	}
	if len(body) > MaxRequestBytes {
		return nil, fmt.Errorf("%w: %s request of %d bytes is larger than %d; split it", ErrMalformed, a.Name, len(body), MaxRequestBytes)
	}
	req := a.request()
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, err
	}
	return req, nil
}
