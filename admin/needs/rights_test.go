package needs

import (
	"testing"

	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestOnTopic: what the brokers tell of a topic, and what follows for a right.
func TestOnTopic(t *testing.T) {
	const describe, create = 1 << kmsg.ACLOperationDescribe, 1 << kmsg.ACLOperationCreate
	for name, c := range map[string]struct {
		told      topicRights
		operation kmsg.ACLOperation
		metadata  int16
		want      string
	}{
		"granted":                       {topicRights{operations: describe}, kmsg.ACLOperationDescribe, 12, linkapi.NeedOK},
		"not granted":                   {topicRights{operations: describe}, kmsg.ACLOperationWrite, 12, linkapi.NeedDenied},
		"not seen":                      {topicRights{operations: untold, err: kerr.TopicAuthorizationFailed}, kmsg.ACLOperationDescribe, 12, linkapi.NeedDenied},
		"not seen, so not told":         {topicRights{operations: untold, err: kerr.TopicAuthorizationFailed}, kmsg.ACLOperationWrite, 12, linkapi.NeedUnknown},
		"no topic":                      {topicRights{operations: untold, err: kerr.UnknownTopicOrPartition}, kmsg.ACLOperationWrite, 12, linkapi.NeedUnknown},
		"no topic, but told":            {topicRights{operations: create, err: kerr.UnknownTopicOrPartition}, kmsg.ACLOperationCreate, 12, linkapi.NeedOK},
		"no topic, not to be created":   {topicRights{operations: describe, err: kerr.UnknownTopicOrPartition}, kmsg.ACLOperationCreate, 12, linkapi.NeedDenied},
		"there, so need not be created": {topicRights{operations: describe}, kmsg.ACLOperationCreate, 12, linkapi.NeedOK},
		"not told":                      {topicRights{operations: untold}, kmsg.ACLOperationRead, 12, linkapi.NeedUnknown},
		"before KIP-430":                {topicRights{operations: untold}, kmsg.ACLOperationRead, 7, linkapi.NeedUnknown},
	} {
		a := &asker{versions: map[int16]span{int16(kmsg.Metadata): {0, c.metadata}}, topics: map[string]topicRights{stateName: c.told}}
		require.Equal(t, c.want, a.onTopic(right{on: stateTopic, operation: c.operation}, stateName).state, name)
	}
}

// TestEitherOperation: markers need ALTER or CLUSTER_ACTION.
func TestEitherOperation(t *testing.T) {
	r := right{on: clusterMarkers, operation: kmsg.ACLOperationAlter, or: kmsg.ACLOperationClusterAction}
	require.Equal(t, linkapi.NeedOK, r.allows(1<<kmsg.ACLOperationClusterAction).state)
	require.Empty(t, r.allows(1<<kmsg.ACLOperationClusterAction).detail)
	require.Contains(t, r.allows(1<<kmsg.ACLOperationAlter).detail, "older brokers ask for ClusterAction")
	require.Equal(t, verdict{linkapi.NeedDenied, "grant Alter or ClusterAction"}, r.allows(1<<kmsg.ACLOperationDescribe))
}

// TestWhatOneBrokerLacks: what one of several brokers does not offer, klink cannot use.
func TestWhatOneBrokerLacks(t *testing.T) {
	a := &asker{}
	offer := func(keys ...kmsg.ApiVersionsResponseApiKey) { a.offers(&kmsg.ApiVersionsResponse{ApiKeys: keys}) }
	offer(kmsg.ApiVersionsResponseApiKey{ApiKey: 0, MinVersion: 0, MaxVersion: 9}, kmsg.ApiVersionsResponseApiKey{ApiKey: 61})
	offer(kmsg.ApiVersionsResponseApiKey{ApiKey: 0, MinVersion: 3, MaxVersion: 7}, kmsg.ApiVersionsResponseApiKey{ApiKey: 65})
	require.Equal(t, map[int16]span{0: {3, 7}}, a.versions)
	require.Equal(t, verdict{linkapi.NeedMissing, "some brokers do not offer it"}, a.askAPI(api{kmsg.DescribeProducers, 0}))
	require.Equal(t, verdict{linkapi.NeedMissing, "some brokers do not offer it"}, a.askAPI(api{kmsg.DescribeTransactions, 0}))
	require.Equal(t, verdict{linkapi.NeedMissing, "the brokers do not offer it"}, a.askAPI(api{kmsg.Heartbeat, 0}))
	require.Equal(t, verdict{linkapi.NeedMissing, "the brokers offer v7 at most, klink needs v8"}, a.askAPI(api{kmsg.Produce, 8}))
	require.Equal(t, verdict{linkapi.NeedOK, "v3 to v7"}, a.askAPI(api{kmsg.Produce, 3}))
}
