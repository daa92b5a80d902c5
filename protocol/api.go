package protocol

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/linkapi"
)

// API is one row of klink's API table.
type API struct {
	Key      int16
	Name     string
	Min, Max int16 // the versions that klink understands
	// FlexibleFrom is the first version with tagged fields.
	FlexibleFrom int16
}

// clientAPIs are the Kafka APIs that clients use, with the versions whose schemas klink has been
// checked against (Apache Kafka 4.3). klink leaves out APIs that brokers use among themselves:
// nobody has a reason to call them through a proxy, and some of them (LeaderAndIsr, Fetch as a
// follower) would carry addresses or offsets that klink does not translate.
var clientAPIs = [...]API{
	{Key: 0, Min: 0, Max: 13}, // Produce. Minimum 0 is what brokers list, librdkafka needs it (KIP-896)
	{Key: 1, Min: 0, Max: 18}, // Fetch
	{Key: 2, Min: 0, Max: 11}, // ListOffsets
	{Key: 3, Min: 0, Max: 13}, // Metadata
	{Key: 8, Min: 0, Max: 10}, // OffsetCommit
	{Key: 9, Min: 0, Max: 10}, // OffsetFetch
	{Key: 10, Min: 0, Max: 6}, // FindCoordinator
	{Key: 11, Min: 0, Max: 9}, // JoinGroup
	{Key: 12, Min: 0, Max: 4}, // Heartbeat
	{Key: 13, Min: 0, Max: 5}, // LeaveGroup
	{Key: 14, Min: 0, Max: 5}, // SyncGroup
	{Key: 15, Min: 0, Max: 6}, // DescribeGroups
	{Key: 16, Min: 0, Max: 5}, // ListGroups
	{Key: 17, Min: 1, Max: 1}, // SaslHandshake. v0 is followed by bare tokens, which are no Kafka frames
	{Key: 18, Min: 0, Max: 5}, // ApiVersions
	{Key: 19, Min: 0, Max: 7}, // CreateTopics
	{Key: 20, Min: 0, Max: 6}, // DeleteTopics
	{Key: 21, Min: 0, Max: 2}, // DeleteRecords
	{Key: 22, Min: 0, Max: 5}, // InitProducerId
	{Key: 23, Min: 0, Max: 4}, // OffsetForLeaderEpoch
	{Key: 24, Min: 0, Max: 3}, // AddPartitionsToTxn. v4 and later are for brokers (KIP-890)
	{Key: 25, Min: 0, Max: 4}, // AddOffsetsToTxn
	{Key: 26, Min: 0, Max: 5}, // EndTxn
	{Key: 27, Min: 0, Max: 2}, // WriteTxnMarkers. Between brokers, but kafka-transactions abort sends it too
	{Key: 28, Min: 0, Max: 5}, // TxnOffsetCommit
	{Key: 29, Min: 0, Max: 3}, // DescribeAcls
	{Key: 30, Min: 0, Max: 3}, // CreateAcls
	{Key: 31, Min: 0, Max: 3}, // DeleteAcls
	{Key: 32, Min: 0, Max: 4}, // DescribeConfigs
	{Key: 33, Min: 0, Max: 2}, // AlterConfigs
	{Key: 34, Min: 0, Max: 2}, // AlterReplicaLogDirs
	{Key: 35, Min: 0, Max: 5}, // DescribeLogDirs
	{Key: 36, Min: 0, Max: 2}, // SaslAuthenticate
	{Key: 37, Min: 0, Max: 3}, // CreatePartitions
	{Key: 38, Min: 0, Max: 3}, // CreateDelegationToken
	{Key: 39, Min: 0, Max: 2}, // RenewDelegationToken
	{Key: 40, Min: 0, Max: 2}, // ExpireDelegationToken
	{Key: 41, Min: 0, Max: 3}, // DescribeDelegationToken
	{Key: 42, Min: 0, Max: 2}, // DeleteGroups. kmsg knows a v3 that Kafka 4.3 does not have
	{Key: 43, Min: 0, Max: 2}, // ElectLeaders
	{Key: 44, Min: 0, Max: 1}, // IncrementalAlterConfigs
	{Key: 45, Min: 0, Max: 1}, // AlterPartitionReassignments
	{Key: 46, Min: 0, Max: 0}, // ListPartitionReassignments
	{Key: 47, Min: 0, Max: 0}, // OffsetDelete
	{Key: 48, Min: 0, Max: 1}, // DescribeClientQuotas
	{Key: 49, Min: 0, Max: 1}, // AlterClientQuotas
	{Key: 50, Min: 0, Max: 0}, // DescribeUserScramCredentials
	{Key: 51, Min: 0, Max: 0}, // AlterUserScramCredentials
	{Key: 55, Min: 0, Max: 2}, // DescribeQuorum
	{Key: 57, Min: 0, Max: 2}, // UpdateFeatures
	{Key: 60, Min: 0, Max: 2}, // DescribeCluster
	{Key: 61, Min: 0, Max: 0}, // DescribeProducers
	{Key: 64, Min: 0, Max: 0}, // UnregisterBroker
	{Key: 65, Min: 0, Max: 0}, // DescribeTransactions
	{Key: 66, Min: 0, Max: 2}, // ListTransactions
	{Key: 68, Min: 0, Max: 1}, // ConsumerGroupHeartbeat
	{Key: 69, Min: 0, Max: 1}, // ConsumerGroupDescribe
	{Key: 71, Min: 0, Max: 0}, // GetTelemetrySubscriptions
	{Key: 72, Min: 0, Max: 0}, // PushTelemetry
	{Key: 74, Min: 0, Max: 1}, // ListConfigResources
	{Key: 75, Min: 0, Max: 0}, // DescribeTopicPartitions: no addresses, no offsets
	{Key: 76, Min: 0, Max: 1}, // ShareGroupHeartbeat
	{Key: 77, Min: 0, Max: 1}, // ShareGroupDescribe
	{Key: 78, Min: 0, Max: 2}, // ShareFetch
	{Key: 79, Min: 0, Max: 2}, // ShareAcknowledge
	{Key: 80, Min: 0, Max: 1}, // AddRaftVoter
	{Key: 81, Min: 0, Max: 0}, // RemoveRaftVoter
	{Key: 88, Min: 0, Max: 1}, // StreamsGroupHeartbeat
	{Key: 89, Min: 0, Max: 1}, // StreamsGroupDescribe
	{Key: 90, Min: 0, Max: 1}, // DescribeShareGroupOffsets
	{Key: 91, Min: 0, Max: 0}, // AlterShareGroupOffsets
	{Key: 92, Min: 0, Max: 0}, // DeleteShareGroupOffsets
}

// MaxClientKey is the highest key of Kafka's own APIs in the table. klink's link APIs begin at
// linkapi.MinKey.
const MaxClientKey = 92

// The table by key, so that a look-up neither hashes nor allocates. A row with Max < Min is not
// supported.
var (
	apisByKey  [MaxClientKey + 1]API
	linkByKey  [linkapi.MaxKey - linkapi.MinKey + 1]API
	noAPI      = API{Min: 0, Max: -1}
	linkAPIs   []API
	allowedAPI []API
)

func init() {
	for i := range apisByKey {
		apisByKey[i] = noAPI
	}
	for i := range linkByKey {
		linkByKey[i] = noAPI
	}
	for _, a := range clientAPIs {
		a.Name = kmsg.NameForKey(a.Key)
		a.FlexibleFrom = flexibleFrom(a.Key, a.Max)
		apisByKey[a.Key] = a
		allowedAPI = append(allowedAPI, a)
	}
	for _, l := range linkapi.APIs() {
		a := API{Key: l.Key, Name: l.Name, Min: l.Min, Max: l.Max} // flexible from version 0
		linkByKey[l.Key-linkapi.MinKey] = a
		linkAPIs = append(linkAPIs, a)
		allowedAPI = append(allowedAPI, a)
	}
}

// flexibleFrom returns the first flexible version according to kmsg, or maxVersion+1 if there is
// none.
func flexibleFrom(key, maxVersion int16) int16 {
	req := kmsg.RequestForKey(key)
	for v := int16(0); v <= maxVersion; v++ {
		req.SetVersion(v)
		if req.IsFlexible() {
			return v
		}
	}
	return maxVersion + 1
}

// APIs returns the whole table: Kafka's APIs by key, then klink's own. Callers must not change the
// slice.
func APIs() []API { return allowedAPI }

// Supported returns the row of a key. ok is false if klink does not support the key.
func Supported(key int16) (API, bool) {
	switch {
	case key >= 0 && key <= MaxClientKey:
		a := apisByKey[key]
		return a, a.Max >= a.Min
	case key >= linkapi.MinKey && key <= linkapi.MaxKey:
		a := linkByKey[key-linkapi.MinKey]
		return a, a.Max >= a.Min
	}
	return noAPI, false
}

// Flexible reports whether a request of this key and version has tagged fields. ok is false for a
// key or version that klink does not know.
func Flexible(key, version int16) (flexible, ok bool) {
	api, ok := Supported(key)
	if !ok || version < api.Min || version > api.Max {
		return false, false
	}
	return version >= api.FlexibleFrom, true
}
