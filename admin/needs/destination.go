package needs

import "github.com/twmb/franz-go/pkg/kmsg"

// klink's own names at the destination.
const (
	stateName = "_klink_state"
	tasksName = "_klink_tasks"
)

// The resources at the destination.
var (
	stateTopic = resource{kmsg.ACLResourceTypeTopic, stateName, "topic _klink_state", "topic `_klink_state`"}
	stateTxn   = resource{kmsg.ACLResourceTypeTransactionalId, stateName, "transactional id _klink_state", "transactional id `_klink_state`"}
	tasksGroup = resource{kmsg.ACLResourceTypeGroup, tasksName, "group _klink_tasks", "group `_klink_tasks`"}
	tasksTopic = resource{kmsg.ACLResourceTypeTopic, tasksName, "topic _klink_tasks", "topic `_klink_tasks`, where there are several instances"}
	mirrors    = resource{kmsg.ACLResourceTypeTopic, "", "mirrors", "topics that become mirrors"}
	groups     = resource{kmsg.ACLResourceTypeGroup, "", "groups", "groups: committed offsets are synced, and set back to the end of a mirror that is stopped"}

	cluster        = resource{kmsg.ACLResourceTypeCluster, "kafka-cluster", "cluster", "cluster"}
	clusterACLs    = resource{kmsg.ACLResourceTypeCluster, "kafka-cluster", "cluster, ACLs", "cluster, for links with `acl.sync.enable=true`"}
	clusterMarkers = resource{kmsg.ACLResourceTypeCluster, "kafka-cluster", "cluster, markers", "cluster, for mirrors of topics with transactions to be [aligned](alignment.md)"}

	// These are not in the table of docs/operations.md: a klink without them warns.
	everyTxn = resource{kmsg.ACLResourceTypeTransactionalId, "klink.sees.transactions", "all transactional ids", ""}
)

// What several needs have in common.
const (
	noState     = "klink serves no client that writes, and mirrors nothing: it keeps links and mirrors there"
	noGroup     = "nothing is mirrored: instances share the work through a group"
	noMirrors   = "no mirror can be created"
	noCopies    = "nothing is mirrored"
	noACLs      = "acl.sync.enable has no effect: task AclSync says why"
	noOffsets   = "committed offsets of groups are not carried over, nor set back when a mirror stops: task ConsumerOffsetSync says why"
	noGrowth    = "a mirror does not get the new partitions of its source: records of those are not mirrored"
	noTrim      = "records that the source has deleted stay at the destination until its own retention deletes them; clients of klink do not see them"
	noFollowing = "configs of mirrors do not follow the source, an existing topic cannot become a mirror, and a stopped mirror keeps the configs of one: task TopicConfigsSync says why"
	noMarkers   = "mirrors of topics with transactions cannot be aligned: clients around klink see other offsets than through it"
	noListing   = "klink may miss transactions that are open when a topic becomes a mirror: their markers would end its alignment"
)

// destination returns what klink needs of the cluster that it serves.
func destination() []Need {
	const required, optional = true, false
	needs := []Need{
		needsAPI(kmsg.Metadata, 8, required, "topics and leaders; who may administer links", "nobody may administer links and mirrors: klink asks the brokers who may"),
		needsAPI(kmsg.Produce, 3, required, "appends", noCopies),
		needsAPI(kmsg.Fetch, 4, required, "reading logs", noCopies),
		needsAPI(kmsg.ListOffsets, 1, required, "ends of logs", noCopies),
		needsAPI(kmsg.FindCoordinator, 0, required, "the group of instances, transactions", noState),
		needsAPI(kmsg.InitProducerID, 0, required, "changes of the state topic", noState),
		needsAPI(kmsg.AddPartitionsToTxn, 0, required, "changes of the state topic", noState),
		needsAPI(kmsg.EndTxn, 0, required, "changes of the state topic", noState),
		needsAPI(kmsg.JoinGroup, 0, required, "the group of instances", noGroup),
		needsAPI(kmsg.SyncGroup, 0, required, "the group of instances", noGroup),
		needsAPI(kmsg.Heartbeat, 0, required, "the group of instances", noGroup),
		needsAPI(kmsg.LeaveGroup, 0, optional, "the group of instances", "the work of an instance that ends waits for --session-timeout"),
		needsAPI(kmsg.DescribeGroups, 0, optional, "which instances there are", "the first mirror after an instance died waits for --state-lease, and mirrors without an owner are not shown as UNOWNED"),
		needsAPI(kmsg.CreateTopics, 0, required, "mirrors", noMirrors),
		needsAPI(kmsg.DescribeConfigs, 0, required, "the state topic; configs of mirrors", noState),
		needsAPI(kmsg.IncrementalAlterConfigs, 0, optional, "configs of mirrors", noFollowing),
		needsAPI(kmsg.CreatePartitions, 0, optional, "mirrors whose source grows", noGrowth),
		needsAPI(kmsg.DeleteRecords, 0, optional, "the log start of mirrors", noTrim),
		needsAPI(kmsg.ListGroups, 0, optional, "committed offsets", noOffsets),
		needsAPI(kmsg.OffsetFetch, 1, optional, "committed offsets", noOffsets),
		needsAPI(kmsg.OffsetCommit, 2, optional, "committed offsets", noOffsets),
		needsAPI(kmsg.WriteTxnMarkers, 0, optional, "alignment", noMarkers),
		needsAPI(kmsg.DescribeProducers, 0, optional, "hanging transactions", "klink does not see hanging transactions in a topic that becomes a mirror, nor those of new partitions"),
		needsAPI(kmsg.ListTransactions, 0, optional, "open transactions", noListing+"; klink reads __transaction_state instead, where it may"),
		needsAPI(kmsg.DescribeTransactions, 0, optional, "open transactions", noListing+"; klink reads __transaction_state instead, where it may"),
		needsAPI(kmsg.DescribeCluster, 0, optional, "whether klink may alter ACLs", "klink link acl sync --dry-run may show changes that klink may not make"),
		needsAPI(kmsg.DescribeACLs, 0, optional, "ACLs", noACLs),
		needsAPI(kmsg.CreateACLs, 0, optional, "ACLs", noACLs),
		needsAPI(kmsg.DeleteACLs, 0, optional, "ACLs", noACLs),

		needsRight(stateTopic, kmsg.ACLOperationCreate, required, "links and mirrors", noState+"; not needed once the topic is there"),
		needsRight(stateTopic, kmsg.ACLOperationDescribe, required, "links and mirrors", noState),
		needsRight(stateTopic, kmsg.ACLOperationDescribeConfigs, required, "links and mirrors", noState),
		needsRight(stateTopic, kmsg.ACLOperationRead, required, "links and mirrors", noState),
		needsRight(stateTopic, kmsg.ACLOperationWrite, required, "links and mirrors", noState),
		needsRight(stateTxn, kmsg.ACLOperationDescribe, required, "changes of the state topic", noState),
		needsRight(stateTxn, kmsg.ACLOperationWrite, required, "changes of the state topic", noState),
		needsRight(tasksGroup, kmsg.ACLOperationDescribe, required, "the group of instances", noGroup),
		needsRight(tasksGroup, kmsg.ACLOperationRead, required, "the group of instances", noGroup),
		needsRight(tasksTopic, kmsg.ACLOperationCreate, optional, "what instances tell each other", lostBoard),
		needsRight(tasksTopic, kmsg.ACLOperationDescribe, optional, "what instances tell each other", lostBoard),
		needsRight(tasksTopic, kmsg.ACLOperationRead, optional, "what instances tell each other", lostBoard),
		needsRight(tasksTopic, kmsg.ACLOperationWrite, optional, "what instances tell each other", lostBoard),
		needsRight(mirrors, kmsg.ACLOperationCreate, required, "mirrors", noMirrors),
		needsRight(mirrors, kmsg.ACLOperationAlter, optional, "mirrors whose source grows", noGrowth),
		needsRight(mirrors, kmsg.ACLOperationAlterConfigs, optional, "configs of mirrors", noFollowing),
		needsRight(mirrors, kmsg.ACLOperationDescribe, required, "mirrors", noCopies),
		needsRight(mirrors, kmsg.ACLOperationDescribeConfigs, optional, "configs of mirrors; whether a log is compacted", noFollowing+"; and "+noMarkers),
		needsRight(mirrors, kmsg.ACLOperationRead, required, "reading logs", noCopies),
		needsRight(mirrors, kmsg.ACLOperationWrite, required, "appends", noCopies),
		needsRight(mirrors, kmsg.ACLOperationDelete, optional, "the log start of mirrors", noTrim),
		needsRight(groups, kmsg.ACLOperationDescribe, optional, "committed offsets", noOffsets),
		needsRight(groups, kmsg.ACLOperationRead, optional, "committed offsets", noOffsets),
		needsRight(cluster, kmsg.ACLOperationDescribe, optional, "all groups of the cluster", "groups that klink may not describe are not seen: their offsets are not set back when a mirror stops"),
		needsRight(clusterACLs, kmsg.ACLOperationAlter, optional, "ACLs", noACLs),
		needsRight(clusterMarkers, kmsg.ACLOperationAlter, optional, "alignment", noMarkers),
		needsRight(everyTxn, kmsg.ACLOperationDescribe, optional, "open transactions", noListing),

		needsLimit("batches stored as sent", required, "the stamp in the header of a batch", "mirrors are FAILED with BATCH_REWRITTEN at their first batch", storedAsSent),
		needsLimit("configs of mirrors", required, "batches stored as sent", noMirrors+", or not with the configs that Detail names", keepsBatches),
		needsLimit("cleanup.policy=compact", required, "the state topic; mirrors of compacted topics", noState+"; and compacted topics cannot be mirrored", compacts),
		needsLimit("compaction lags", optional, "mirrors of compacted topics", "compacted topics cannot be mirrored: klink has to keep the cleaner off records that do not count", lags),
		needsLimit("endless retention", optional, "mirrors of topics that are kept for ever", "a topic that its source keeps for ever cannot be mirrored, unless topic.config.sync.include leaves retention out", keepsForEver),
		needsLimit("max.message.bytes", optional, "batches as large as at the source", "mirrors of topics with larger batches cannot be created, or fail with RECORD_TOO_LARGE", takesLargeBatches),
		needsLimit("min.insync.replicas", required, "appends, with acks=all", "appends wait: NOT_ENOUGH_REPLICAS", replicasSuffice),
		needsLimit("session time-outs", required, "--session-timeout", noGroup, allowsSession),
		needsLimit("transaction.max.timeout.ms", required, "changes of the state topic, 15 s", noState, allowsTransaction),
		needsLimit("offsets.retention.minutes", optional, "committed offsets of groups that are idle at the destination", "offsets that were carried over go before a consumer comes for them", keepsOffsets),
	}
	for i := range needs {
		n := &needs[i]
		if n.right.on == clusterMarkers {
			n.right.or = kmsg.ACLOperationClusterAction
		}
		n.proven = n.right.on == stateTopic || n.right.on == stateTxn || n.Name == "transaction.max.timeout.ms"
	}
	return needs
}

const lostBoard = "mirror list and describe show only what the asked instance copies, and a promotion waits for checkpoints"
