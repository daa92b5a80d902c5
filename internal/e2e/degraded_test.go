package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// degraded is a source and a destination of another make, of which APIs are taken away.
type degraded struct {
	source, destination *thin
	adm                 *kadm.Client // of the source, around klink
	k                   *Klink
	topic               string // of the running case
}

// TestDegradedByName takes each API that klink can do without away from the destination, and from
// the source. The mirror goes on, or stops, and in each case what is lost is said by name: in the
// state of the mirror, the task, or the answer to the command.
func TestDegradedByName(t *testing.T) {
	t.Parallel()
	d := &degraded{source: startThin(t), destination: startThin(t)}
	d.adm = kadm.NewClient(d.source.Client(t))
	d.k = startThinKlink(t, d.destination)
	d.k.MustCLI(t, "link", "create", "east", "--config", "bootstrap.servers="+d.source.addr,
		"--config", "topic.config.sync.ms=500", "--config", "consumer.offset.sync.ms=500", "--config", "acl.sync.ms=500",
		"--config", "consumer.offset.sync.enable=true",
		"--config", allGroups,
		"--config", `acl.filters={"aclFilters":[{"resourceFilter":{"resourceType":"topic"},"accessFilter":{"permissionType":"allow"}}]}`)
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"hanging transactions", d.noDescribeProducers},
		{"open transactions", d.noTransactionLists},
		{"markers", d.noMarkers},
		{"markers denied", d.markersDenied},
		{"log start", d.noDeleteRecords},
		{"growth", d.noCreatePartitions},
		{"configs", d.noAlterConfigs},
		{"configs denied", d.configsDenied},
		{"large batches", d.largeBatches},
		{"policy", d.policy},
		{"offsets", d.noOffsets},
		{"ACLs", d.noACLs},
		{"instances", d.noDescribeGroups},
		{"source configs denied", d.sourceConfigsDenied},
		{"source groups", d.noSourceGroups},
		{"source epochs", d.noEpochs},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.topic = "t-" + strings.ReplaceAll(c.name, " ", "-")
			c.run(t)
			d.destination.lacks()
			d.source.lacks()
			d.k.MustRun(t)
		})
	}
}

// create makes the topic of the case at the source, and its mirror.
func (d *degraded) create(t *testing.T) {
	t.Helper()
	kafkatest.CreateTopic(t, d.source.Client(t), d.topic, 1, 1, nil)
	kafkatest.Produce(t, d.source.Client(t), d.topic, 0, kafkatest.Records(5, 10)...)
	// A connection may be closed under the request: what is recorded then is created soon.
	if _, stderr, code := d.k.CLI(t, "topic", "create", d.topic, "--link", "east", "--mirror-topic", d.topic); code != 0 && !strings.Contains(stderr, "klink will retry") {
		t.Fatal(stderr)
	}
}

// copies fails unless the mirror is ACTIVE and has what the source has.
func (d *degraded) copies(t *testing.T) {
	t.Helper()
	kafkatest.Produce(t, d.source.Client(t), d.topic, 0, kafkatest.Records(5, 10)...)
	awaitMirror(t, d.k, d.source.Cluster, d.topic)
}

// promotes fails unless the mirror can be promoted and then takes writes.
func (d *degraded) promotes(t *testing.T) {
	t.Helper()
	d.k.MustCLI(t, "mirror", "promote", d.topic, "--timeout", "1m")
	awaitMirrorState(t, d.k, d.topic, "STOPPED", "")
}

// says fails unless the text has all parts.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in: %s", part, text)
		}
	}
}

func (d *degraded) noDescribeProducers(t *testing.T) {
	d.destination.lacks(kmsg.DescribeProducers)
	d.create(t)
	d.copies(t)
	d.promotes(t)
}

func (d *degraded) noTransactionLists(t *testing.T) {
	d.destination.lacks(kmsg.ListTransactions, kmsg.DescribeTransactions)
	d.create(t)
	d.copies(t)
	d.promotes(t)
}

// shift waits until the mirror is not aligned any more and returns why.
func (d *degraded) shift(t *testing.T) string {
	t.Helper()
	transact(t.Context(), t, d.source.Cluster, d.topic, "tx-"+d.topic, 1, 3, 2)
	d.copies(t)
	reason := ""
	kafkatest.WaitFor(t, time.Minute, "a reason of the shift", func() (bool, string) {
		m, err := describeMirror(t, d.k, d.topic)
		if err != nil || len(m.Partitions) != 1 {
			return false, fmt.Sprint(m, err)
		}
		reason = m.Partitions[0].ShiftReason
		return !m.Partitions[0].Aligned && reason != "", fmt.Sprintf("%+v", m)
	})
	return reason
}

func (d *degraded) noMarkers(t *testing.T) {
	d.destination.lacks(kmsg.WriteTxnMarkers)
	d.create(t)
	says(t, d.shift(t), "WriteTxnMarkers")
	d.promotes(t)
}

func (d *degraded) markersDenied(t *testing.T) {
	d.destination.answers(kmsg.WriteTxnMarkers, func(req kmsg.Request) kmsg.Response {
		resp := kmsg.NewPtrWriteTxnMarkersResponse()
		for _, m := range req.(*kmsg.WriteTxnMarkersRequest).Markers {
			a := kmsg.NewWriteTxnMarkersResponseMarker()
			a.ProducerID = m.ProducerID
			for _, topic := range m.Topics {
				at := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
				at.Topic = topic.Topic
				for _, p := range topic.Partitions {
					ap := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
					ap.Partition, ap.ErrorCode = p, kerr.ClusterAuthorizationFailed.Code
					at.Partitions = append(at.Partitions, ap)
				}
				a.Topics = append(a.Topics, at)
			}
			resp.Markers = append(resp.Markers, a)
		}
		return resp
	})
	d.create(t)
	says(t, d.shift(t), "ALTER or CLUSTER_ACTION on the cluster")
	d.promotes(t)
}

func (d *degraded) noDeleteRecords(t *testing.T) {
	d.destination.lacks(kmsg.DeleteRecords)
	d.create(t)
	d.copies(t)
	deleteBefore(t.Context(), t, d.adm, d.topic, map[int32]int64{0: 7})
	d.copies(t)
	kafkatest.WaitFor(t, time.Minute, "a warning", func() (bool, string) {
		text := d.k.Log(t)
		return strings.Contains(text, "could not move the log start of a mirror partition"), text
	})
	d.promotes(t)
}

func (d *degraded) noCreatePartitions(t *testing.T) {
	d.create(t)
	d.copies(t)
	d.destination.lacks(kmsg.CreatePartitions)
	if _, err := d.adm.UpdatePartitions(t.Context(), 2, d.topic); err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitFor(t, time.Minute, "the mirror to say why it does not grow", func() (bool, string) {
		m, err := describeMirror(t, d.k, d.topic)
		if err == nil && m.State != "ACTIVE" {
			t.Fatalf("%+v", m)
		}
		return strings.Contains(fmt.Sprint(m.Notices), "CreatePartitions"), fmt.Sprintf("%+v %v", m, err)
	})
	d.destination.lacks()
	d.copies(t)
}

func (d *degraded) noAlterConfigs(t *testing.T) {
	d.destination.lacks(kmsg.IncrementalAlterConfigs)
	d.create(t)
	d.copies(t)
	setConfig(t.Context(), t, d.adm, d.topic, "retention.ms", "123456789")
	says(t, awaitTaskText(t, d.k, "TopicConfigsSync", "IncrementalAlterConfigs"), d.topic, "retention.ms", "UNSUPPORTED_VERSION")
	d.promotes(t)
}

// denyConfigs has DescribeConfigs denied for the topics of the running case.
func (d *degraded) denyConfigs(req kmsg.Request) kmsg.Response {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	for _, r := range req.(*kmsg.DescribeConfigsRequest).Resources {
		if strings.HasPrefix(r.ResourceName, d.topic) {
			a := kmsg.NewDescribeConfigsResponseResource()
			a.ErrorCode, a.ResourceType, a.ResourceName = kerr.TopicAuthorizationFailed.Code, r.ResourceType, r.ResourceName
			resp.Resources = append(resp.Resources, a)
		}
	}
	if len(resp.Resources) == 0 {
		return nil
	}
	return resp
}

func (d *degraded) configsDenied(t *testing.T) {
	topic := d.topic
	d.topic = "other-" + topic // which is not denied
	d.create(t)
	d.copies(t)
	d.topic = topic
	d.destination.answers(kmsg.DescribeConfigs, d.denyConfigs)
	d.create(t)
	d.copies(t)
	says(t, awaitTaskText(t, d.k, "TopicConfigsSync", "mirror topic '"+d.topic+"'"), "AUTHORIZATION_ERROR")
	setConfig(t.Context(), t, d.adm, "other-"+topic, "retention.ms", "123456789")
	around := kadm.NewClient(d.destination.Client(t))
	kafkatest.WaitFor(t, time.Minute, "the other mirror to follow", func() (bool, string) {
		described, err := around.DescribeTopicConfigs(t.Context(), "other-"+topic)
		text := fmt.Sprint(err)
		for _, r := range described {
			for _, c := range r.Configs {
				if c.Key == "retention.ms" {
					text = c.MaybeValue()
				}
			}
		}
		return text == "123456789", text
	})
	d.promotes(t)
}

// largeBatches has a destination that takes smaller batches than the source, and lets nobody change
// that.
func (d *degraded) largeBatches(t *testing.T) {
	d.destination.lacks(kmsg.IncrementalAlterConfigs)
	d.create(t)
	d.copies(t)
	setConfig(t.Context(), t, d.adm, d.topic, "max.message.bytes", "9000000")
	found, code := checkCluster(t, d.k, "--link", "east")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	says(t, notOK(found)["missing batches fit the destination"], d.topic, "9000000", "1048588")
	value := make([]byte, 2<<20)
	_, _ = rand.Read(value) // cannot be compressed; never fails
	kafkatest.Produce(t, d.source.Client(t, kgo.ProducerBatchMaxBytes(4<<20)), d.topic, 0, &kgo.Record{Value: value})
	m := awaitMirrorState(t, d.k, d.topic, "SOURCE_UNAVAILABLE", "RECORD_TOO_LARGE")
	says(t, m.ErrorMessage, d.topic, "IncrementalAlterConfigs")
	d.destination.lacks() // somebody raises the limit, and the mirror goes on
	d.copies(t)
}

func (d *degraded) policy(t *testing.T) {
	d.destination.answers(kmsg.CreateTopics, func(req kmsg.Request) kmsg.Response {
		resp := kmsg.NewPtrCreateTopicsResponse()
		for _, topic := range req.(*kmsg.CreateTopicsRequest).Topics {
			refused := false
			for _, c := range topic.Configs {
				refused = refused || c.Name == "segment.bytes"
			}
			if !refused {
				return nil
			}
			a := kmsg.NewCreateTopicsResponseTopic()
			a.Topic, a.ErrorCode = topic.Topic, kerr.PolicyViolation.Code
			resp.Topics = append(resp.Topics, a)
		}
		return resp
	})
	kafkatest.CreateTopic(t, d.source.Client(t), d.topic, 1, 1, nil)
	_, stderr, code := d.k.CLI(t, "topic", "create", d.topic, "--link", "east", "--mirror-topic", d.topic)
	if code == 0 {
		t.Error("the mirror was created")
	}
	says(t, stderr, "POLICY_VIOLATION", "segment.bytes")
}

func (d *degraded) noOffsets(t *testing.T) {
	d.create(t)
	d.copies(t)
	for i, key := range []kmsg.Key{kmsg.OffsetCommit, kmsg.OffsetFetch} {
		d.destination.lacks(key)
		commitAt(t, d.source.Cluster, "readers", d.topic, int64(3+i))
		awaitTaskText(t, d.k, "ConsumerOffsetSync", key.Name())
	}
	d.copies(t)
	d.promotes(t)
}

func (d *degraded) noACLs(t *testing.T) {
	d.k.MustCLI(t, "link", "update", "east", "--config", "acl.sync.enable=true")
	defer d.k.MustCLI(t, "link", "update", "east", "--config", "acl.sync.enable=false")
	awaitTaskText(t, d.k, "AclSync", "SECURITY_DISABLED")
	d.source.lacks(kmsg.DescribeACLs)
	awaitTaskText(t, d.k, "AclSync", "DescribeACLs")
	d.source.lacks()
	d.source.answers(kmsg.DescribeACLs, func(kmsg.Request) kmsg.Response {
		resp := kmsg.NewPtrDescribeACLsResponse()
		r := kmsg.NewDescribeACLsResponseResource()
		r.ResourceType, r.ResourceName, r.ResourcePatternType = kmsg.ACLResourceTypeTopic, "orders", kmsg.ACLResourcePatternTypeLiteral
		a := kmsg.NewDescribeACLsResponseResourceACL()
		a.Principal, a.Host, a.Operation, a.PermissionType = "User:alice", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
		r.ACLs = append(r.ACLs, a)
		resp.Resources = append(resp.Resources, r)
		return resp
	})
	d.destination.lacks(kmsg.DescribeACLs)
	awaitTaskText(t, d.k, "AclSync", "DescribeACLs")
}

// awaitTaskText waits until the errors of a task name something, and returns their text.
func awaitTaskText(t *testing.T, k *Klink, task, part string) (text string) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, task+" to name "+part, func() (bool, string) {
		text = fmt.Sprint(taskError(t, k, "east", task))
		return strings.Contains(text, part), text
	})
	return text
}

func (d *degraded) noDescribeGroups(t *testing.T) {
	d.destination.lacks(kmsg.DescribeGroups, kmsg.DescribeCluster, kmsg.LeaveGroup)
	d.create(t)
	d.copies(t)
	d.promotes(t)
}

func (d *degraded) sourceConfigsDenied(t *testing.T) {
	d.create(t)
	d.copies(t)
	d.source.answers(kmsg.DescribeConfigs, d.denyConfigs)
	awaitTaskText(t, d.k, "TopicConfigsSync", "AUTHORIZATION_ERROR")
	d.copies(t)
	kafkatest.CreateTopic(t, d.source.Client(t), d.topic+"-2", 1, 1, nil)
	_, stderr, code := d.k.CLI(t, "topic", "create", d.topic+"-2", "--link", "east", "--mirror-topic", d.topic+"-2")
	if code == 0 {
		t.Error("the mirror was created")
	}
	says(t, stderr, d.topic+"-2", "DESCRIBE_CONFIGS")
	d.source.lacks(kmsg.DescribeConfigs)
	awaitTaskText(t, d.k, "TopicConfigsSync", "DescribeConfigs")
}

func (d *degraded) noSourceGroups(t *testing.T) {
	d.create(t)
	d.copies(t)
	commitAt(t, d.source.Cluster, "readers", d.topic, 3)
	for _, key := range []kmsg.Key{kmsg.ListGroups, kmsg.OffsetFetch} {
		d.source.lacks(key)
		awaitTaskText(t, d.k, "ConsumerOffsetSync", key.Name())
	}
	d.promotes(t)
}

func (d *degraded) noEpochs(t *testing.T) {
	d.source.lacks(kmsg.OffsetForLeaderEpoch)
	d.create(t)
	d.copies(t)
	d.promotes(t)
}
