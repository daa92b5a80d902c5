// Package kafkatest gives tests real Apache Kafka clusters, embedded ones, and faulty connections
// between them.
//
// A real cluster is Apache Kafka from Maven Central (three poms in this directory name the jars),
// run with the Java of the machine:
//
//	cluster := kafkatest.Start(t)                        // one KRaft node of 4.3.1
//	cluster := kafkatest.Start(t, kafkatest.Brokers(3))  // replication factor 3, min.insync.replicas 2
//	cluster := kafkatest.Shared(t, "source")             // one for the whole test binary, see [Main]
//	old := kafkatest.StartOld(t)                         // 2.4.1 with ZooKeeper
//	old := kafkatest.StartRelease(t, kafkatest.V282)     // 2.8.2 with ZooKeeper
//
// Everything listens on 127.0.0.1, keeps its data in a temporary directory, and is killed with the
// test binary even if that one is killed itself. The embedded cluster of [Embedded] needs neither
// Java nor time, but proves nothing about real brokers.
//
// Environment:
//   - KLINK_KAFKA_CACHE: where the jars are kept; default klink/kafka in the user's cache directory
//   - KLINK_SKIP_KAFKA=1: skip tests that need a real cluster (without it they fail where Java or
//     Maven is missing)
//   - KLINK_KAFKA_PROOF: a file that gets a line for each real broker that became ready
package kafkatest
