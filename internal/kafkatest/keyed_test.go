package kafkatest

import (
	"archive/zip"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestKeyedRequestsAreKnown compares the classes by which brokers keep arrays of requests in hash
// tables with those that internal/shapegen knows (keys in write.go): klink counts what would
// collide in them before it forwards a request. Arrays of requests between brokers and controllers
// are left out, since klink forwards none.
func TestKeyedRequestsAreKnown(t *testing.T) {
	Require(t)
	dir, err := jars(V431)
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "kafka-clients-*.jar"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("Kafka's clients library: %v %v", paths, err)
	}
	jar, err := zip.OpenReader(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	defer jar.Close()
	class := regexp.MustCompile(`^org/apache/kafka/common/message/(\w+)RequestData\$(\w+)Collection\.class$`)
	var found []string
	for _, f := range jar.File {
		m := class.FindStringSubmatch(f.Name)
		if m != nil && !slices.Contains([]string{"BrokerRegistration", "ControllerRegistration", "BeginQuorumEpoch", "EndQuorumEpoch"}, m[1]) {
			found = append(found, m[1]+" "+m[2])
		}
	}
	slices.Sort(found)
	known := []string{
		"AddPartitionsToTxn AddPartitionsToTxnTopic",
		"AddPartitionsToTxn AddPartitionsToTxnTransaction",
		"AddRaftVoter Listener",
		"AlterConfigs AlterConfigsResource",
		"AlterConfigs AlterableConfig",
		"AlterReplicaLogDirs AlterReplicaLogDir",
		"AlterReplicaLogDirs AlterReplicaLogDirTopic",
		"AlterShareGroupOffsets AlterShareGroupOffsetsRequestTopic",
		"CreatePartitions CreatePartitionsTopic",
		"CreateTopics CreatableReplicaAssignment",
		"CreateTopics CreatableTopic",
		"CreateTopics CreatableTopicConfig",
		"DescribeLogDirs DescribableLogDirTopic",
		"ElectLeaders TopicPartitions",
		"IncrementalAlterConfigs AlterConfigsResource",
		"IncrementalAlterConfigs AlterableConfig",
		"JoinGroup JoinGroupRequestProtocol",
		"OffsetDelete OffsetDeleteRequestTopic",
		"OffsetForLeaderEpoch OffsetForLeaderTopic",
		"Produce TopicProduceData",
		"ShareAcknowledge AcknowledgePartition",
		"ShareAcknowledge AcknowledgeTopic",
		"ShareFetch FetchPartition",
		"ShareFetch FetchTopic",
		"UpdateFeatures FeatureUpdateKey",
		"UpdateRaftVoter Listener",
	}
	if !slices.Equal(found, known) {
		t.Errorf("Kafka's clients library keeps the arrays %q by keys, internal/shapegen knows %q", found, known)
	}
}
