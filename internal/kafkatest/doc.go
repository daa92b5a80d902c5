// Package kafkatest gives tests real Apache Kafka clusters, embedded ones, and faulty connections
// between them.
//
// A real cluster is Apache Kafka from Maven Central (three poms in this directory name the jars).
// It runs with the machine's Java:
//
//	// One KRaft node of 4.3.1.
//	cluster := kafkatest.Start(t)
//	// Replication factor 3, min.insync.replicas 2.
//	cluster := kafkatest.Start(t, kafkatest.Brokers(3))
//	// One cluster for the whole test binary, see [Main].
//	cluster := kafkatest.Shared(t, "source")
//	// 2.4.1 with ZooKeeper.
//	old := kafkatest.StartOld(t)
//	// 2.8.2 with ZooKeeper.
//	old := kafkatest.StartRelease(t, kafkatest.V282)
//
// Everything listens on 127.0.0.1, keeps its data in a temporary directory, and dies with the test
// binary, even if that is killed. The embedded cluster of [Embedded] needs no Java and starts at
// once, but proves nothing about real brokers.
//
// Environment:
//   - KLINK_KAFKA_CACHE: where the jars are kept; default klink/kafka in the user's cache directory
//   - KLINK_SKIP_KAFKA=1: skip tests that need a real cluster (without it they fail if Java or
//     Maven is missing)
//   - KLINK_KAFKA_PROOF: a file that gets a line for each real broker that became ready
package kafkatest
