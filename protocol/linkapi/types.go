// Package linkapi has the messages of klink's link administration: Kafka API keys 15000 to 15015, flexible from version
// 0, documented in docs/protocol.md. Each request implements kmsg.Request and each response kmsg.Response, so that
// kgo.Client.Request sends them (with kgo.MaxVersions(nil)).
package linkapi

// The API keys. 15009 to 15015 are reserved.
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
	MinKey                    = KeyCreateLinks
	MaxKey                    = KeyAlterMirrors
)

// Config is one configuration entry of a request; a nil value is null.
type Config struct {
	Name  string
	Value *string
}

// CreateLinksRequest creates links. Needs ALTER on the cluster.
type CreateLinksRequest struct {
	Version      int16
	TimeoutMs    int32
	ValidateOnly bool
	// SkipConnect creates the link without trying to reach its source first.
	SkipConnect bool
	Links       []CreateLink
}

// CreateLink is one link to create.
type CreateLink struct {
	Name    string
	Configs []Config
}

// CreateLinksResponse answers CreateLinksRequest, one result per link in the order of the request.
type CreateLinksResponse struct {
	Version    int16
	ThrottleMs int32
	Results    []CreateLinkResult
}

// CreateLinkResult is the outcome for one link.
type CreateLinkResult struct {
	Name            string
	ErrorCode       int16
	ErrorMessage    *string
	ID              string // uuid of the new link
	SourceClusterID string
}

// DeleteLinksRequest deletes links. A link with mirrors that are not stopped is refused unless Force is set, which stops
// them first. Needs ALTER on the cluster.
type DeleteLinksRequest struct {
	Version      int16
	TimeoutMs    int32
	ValidateOnly bool
	Force        bool
	Names        []string
}

// DeleteLinksResponse answers DeleteLinksRequest.
type DeleteLinksResponse struct {
	Version    int16
	ThrottleMs int32
	Results    []NameResult
}

// NameResult is the outcome for one named link or topic.
type NameResult struct {
	Name         string
	ErrorCode    int16
	ErrorMessage *string
}

// ListLinksRequest lists all links. Needs DESCRIBE on the cluster.
type ListLinksRequest struct {
	Version int16
}

// ListLinksResponse answers ListLinksRequest, links in the order of their names.
type ListLinksResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16
	ErrorMessage *string
	Links        []ListedLink
}

// ListedLink is one line of ListLinks.
type ListedLink struct {
	Name            string
	ID              string
	State           string
	Error           string // "" = none
	SourceClusterID string
	MirrorCount     int32 // not counting stopped mirrors
}

// DescribeLinksRequest describes links; nil Names = all. Needs DESCRIBE on the cluster.
type DescribeLinksRequest struct {
	Version int16
	Names   []string // nullable
}

// DescribeLinksResponse answers DescribeLinksRequest.
type DescribeLinksResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16 // of the whole request
	ErrorMessage *string
	Links        []DescribedLink
}

// DescribedLink is one link. Sensitive values are shown as [hidden].
type DescribedLink struct {
	Name                 string
	ErrorCode            int16 // of this answer, as UNKNOWN_TOPIC_OR_PARTITION's counterpart for links: RESOURCE_NOT_FOUND
	ErrorMessage         *string
	ID                   string
	State                string
	Error                string // why State is not ACTIVE, "" = none
	StateMessage         string
	SourceClusterID      string
	DestinationClusterID string
	Configs              []DescribedConfig
}

// DescribedConfig is one configuration entry of a link.
type DescribedConfig struct {
	Name      string
	Value     *string
	IsDefault bool
	Sensitive bool
}

// ConfigOp says what to do with a config.
const (
	ConfigSet    int8 = 0
	ConfigDelete int8 = 1
)

// AlterLinkConfigsRequest changes configs of links, each link all or nothing. Needs ALTER on the cluster.
type AlterLinkConfigsRequest struct {
	Version      int16
	TimeoutMs    int32
	ValidateOnly bool
	Links        []AlterLink
}

// AlterLink names the changes to one link.
type AlterLink struct {
	Name    string
	Configs []AlterConfig
}

// AlterConfig is one change.
type AlterConfig struct {
	Name  string
	Op    int8
	Value *string
}

// AlterLinkConfigsResponse answers AlterLinkConfigsRequest.
type AlterLinkConfigsResponse struct {
	Version    int16
	ThrottleMs int32
	Results    []NameResult
}

// CreateMirrorsRequest creates mirror topics. Needs ALTER on the cluster.
type CreateMirrorsRequest struct {
	Version      int16
	TimeoutMs    int32
	ValidateOnly bool
	Mirrors      []CreateMirror
}

// CreateMirror is one mirror to create.
type CreateMirror struct {
	Topic             string
	Link              string
	SourceTopic       string // "" = as Topic
	NumPartitions     int32  // -1 = as at the source; another number than the source's is refused
	ReplicationFactor int16  // -1 = the destination's default
	Configs           []Config
}

// CreateMirrorsResponse answers CreateMirrorsRequest.
type CreateMirrorsResponse struct {
	Version    int16
	ThrottleMs int32
	Results    []NameResult
}

// ListMirrorsRequest lists mirrors. Needs DESCRIBE on the cluster.
type ListMirrorsRequest struct {
	Version        int16
	Link           *string // nil = of all links
	IncludeStopped bool
}

// ListMirrorsResponse answers ListMirrorsRequest, mirrors in the order of their topics.
type ListMirrorsResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16
	ErrorMessage *string
	Mirrors      []ListedMirror
}

// ListedMirror is one line of ListMirrors.
type ListedMirror struct {
	Link          string
	Topic         string
	SourceTopic   string
	State         string
	Error         string // "" = none
	StateTimeMs   int64  // Unix milliseconds
	NumPartitions int32
	MaxLag        int64 // offsets, over all partitions; -1 = unknown
}

// DescribeMirrorsRequest describes mirrors; nil Topics = all. Needs DESCRIBE on the cluster.
type DescribeMirrorsRequest struct {
	Version int16
	Topics  []string // nullable
}

// DescribeMirrorsResponse answers DescribeMirrorsRequest.
type DescribeMirrorsResponse struct {
	Version      int16
	ThrottleMs   int32
	ErrorCode    int16 // of the whole request
	ErrorMessage *string
	Mirrors      []DescribedMirror
}

// DescribedMirror is one mirror.
type DescribedMirror struct {
	Topic        string
	ErrorCode    int16
	ErrorMessage *string
	Link         string
	SourceTopic  string
	State        string
	Error        string // why State is FAILED, SOURCE_UNAVAILABLE, ..., "" = none
	StateMessage string
	StateTimeMs  int64
	Partitions   []DescribedPartition
}

// DescribedPartition is one partition of a mirror. Offsets are logical; -1 = unknown.
type DescribedPartition struct {
	Partition       int32
	SourceEndOffset int64
	MirrorEndOffset int64
	Lag             int64
	LastFetchTimeMs int64
	// Shift is logical - physical at the end of the log; 0 = aligned.
	Shift int64
}

// What AlterMirrors can do.
const (
	MirrorPause    int8 = 0
	MirrorResume   int8 = 1
	MirrorPromote  int8 = 2
	MirrorFailover int8 = 3
)

// AlterMirrorsRequest pauses, resumes, promotes or fails over mirrors. Needs ALTER on the cluster.
type AlterMirrorsRequest struct {
	Version      int16
	TimeoutMs    int32
	ValidateOnly bool
	Mirrors      []AlterMirror
}

// AlterMirror is one change of a mirror.
type AlterMirror struct {
	Topic string
	Op    int8
}

// AlterMirrorsResponse answers AlterMirrorsRequest.
type AlterMirrorsResponse struct {
	Version    int16
	ThrottleMs int32
	Results    []NameResult
}
