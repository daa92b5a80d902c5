package needs

import "github.com/twmb/franz-go/pkg/kmsg"

// The resources at a source.
var (
	sourceTopics = resource{kmsg.ACLResourceTypeTopic, "", "topics to mirror", "topics to mirror"}
	sourceGroups = resource{kmsg.ACLResourceTypeGroup, "", "groups", "groups: those whose offsets are synced"}
)

const (
	noSourceOffsets = "committed offsets of groups are not carried over: task ConsumerOffsetSync says why"
	noComparing     = "if the source loses records that are mirrored already, klink notices that only where its log ends before the mirror's end"
)

// source returns what klink needs of the source of a link.
func source() []Need {
	const required, optional = true, false
	return []Need{
		needsAPI(kmsg.Metadata, 1, required, "topics and leaders", noCopies),
		needsAPI(kmsg.Fetch, 4, required, "records", noCopies),
		needsAPI(kmsg.ListOffsets, 1, required, "ends of logs", noCopies),
		needsAPI(kmsg.DescribeConfigs, 0, required, "configs of topics", noMirrors),
		needsAPI(kmsg.OffsetForLeaderEpoch, 2, optional, "comparing leader epochs", noComparing),
		needsAPI(kmsg.ListGroups, 0, optional, "committed offsets", noSourceOffsets),
		needsAPI(kmsg.FindCoordinator, 0, optional, "committed offsets", noSourceOffsets),
		needsAPI(kmsg.OffsetFetch, 1, optional, "committed offsets", noSourceOffsets),
		needsAPI(kmsg.DescribeGroups, 0, optional, "whether a group is active, before Kafka 2.6", "klink group migrate does not work where ListGroups has no states"),
		needsAPI(kmsg.DescribeACLs, 0, optional, "ACLs", noACLs),

		needsRight(sourceTopics, kmsg.ACLOperationDescribe, required, "topics and leaders", noCopies),
		needsRight(sourceTopics, kmsg.ACLOperationDescribeConfigs, required, "configs of topics", noMirrors),
		needsRight(sourceTopics, kmsg.ACLOperationRead, required, "records", noCopies),
		needsRight(sourceGroups, kmsg.ACLOperationDescribe, optional, "committed offsets", noSourceOffsets),
		needsRight(clusterACLs, kmsg.ACLOperationDescribe, optional, "ACLs", noACLs),

		needsLimit("batches fit the destination", required, "copying batches as they are", "mirrors fail with RECORD_TOO_LARGE at the first batch that is too large", batchesFit),
	}
}
