package mirror

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"klink/bench"
)

// mirrorMakerProperties is what a MirrorMaker 2 expert would configure for throughput: no renaming,
// no conversion, large fetches and batches, more than 500 records a poll, and none of the tasks
// that this benchmark does not measure (heartbeats, checkpoints, syncs of groups, ACLs and
// configs).
const mirrorMakerProperties = `clusters = src, dst
src.bootstrap.servers = %[1]s
dst.bootstrap.servers = %[2]s
src->dst.enabled = true
src->dst.topics = %[3]s
dst->src.enabled = false
replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy
tasks.max = %[4]d
replication.factor = %[6]d
heartbeats.topic.replication.factor = %[6]d
checkpoints.topic.replication.factor = %[6]d
config.storage.replication.factor = %[6]d
offset.storage.replication.factor = %[6]d
status.storage.replication.factor = %[6]d
offset.storage.partitions = 1
status.storage.partitions = 1
emit.heartbeats.enabled = false
emit.checkpoints.enabled = false
emit.offset-syncs.enabled = false
refresh.topics.enabled = false
sync.group.offsets.enabled = false
sync.topic.acls.enabled = false
sync.topic.configs.enabled = false
key.converter = org.apache.kafka.connect.converters.ByteArrayConverter
value.converter = org.apache.kafka.connect.converters.ByteArrayConverter
header.converter = org.apache.kafka.connect.converters.ByteArrayConverter
src.consumer.isolation.level = read_committed
src.consumer.fetch.max.bytes = 52428800
src.consumer.max.partition.fetch.bytes = %[5]d
src.consumer.max.poll.records = 10000
src.consumer.receive.buffer.bytes = 4194304
dst.producer.acks = all
dst.producer.batch.size = 262144
dst.producer.linger.ms = 5
dst.producer.buffer.memory = 134217728
dst.producer.max.request.size = 4194304
dst.producer.send.buffer.bytes = 1048576
`

// mirrorMakerTasks is the largest number of MirrorMaker 2 tasks. On two cores more tasks are no
// faster.
const mirrorMakerTasks = 4

const mirrorMakerLog = `status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n%ex{3}
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
`

// mirrorMaker starts MirrorMaker 2 in dedicated mode with the JVM flags of its own start script.
func (l *launcher) mirrorMaker(run string, j *job) (*running, error) {
	text := fmt.Sprintf(mirrorMakerProperties, j.source, j.dst.far, strings.Join(j.topics(), ","), min(mirrorMakerTasks, j.w.partitions), j.w.partitionFetch(), j.dst.replication)
	if j.w.lz4 {
		text += "dst.producer.compression.type = lz4\n"
	}
	properties, logging := filepath.Join(l.dir, run+".properties"), filepath.Join(l.dir, "mirrormaker2-log4j2.properties")
	log := mirrorMakerLog
	if os.Getenv("KLINK_BENCH_MM2_INFO") == "1" { // shows the configs that its clients really have
		log = strings.Replace(log, "level=warn", "level=info", 1)
	}
	if err := os.WriteFile(logging, []byte(log), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(properties, []byte(text), 0o600); err != nil {
		return nil, err
	}
	flags := []string{
		"-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true", "-Dlog4j2.configurationFile=" + logging,
	}
	args := slices.Concat(flags, []string{"-cp", filepath.Join(l.lib, "*"), "org.apache.kafka.connect.mirror.MirrorMaker", properties})
	p, err := bench.StartProcess(l.dir, run, nil, "java", args...)
	if err != nil {
		return nil, err
	}
	return &running{Process: p, targets: j.dense()}, nil
}
