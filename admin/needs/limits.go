package needs

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"klink/admin/linkconfig"
	"klink/admin/topicconfig"
	"klink/internal/kafkaclient"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// checkTopic is the name of a topic that is never created: the brokers only validate it.
const checkTopic = "_klink_check"

// topicConfigs describes the configs of a topic; those without a value are left out.
func (a *asker) topicConfigs(topic string) (map[string]string, error) {
	described, err := a.admin.DescribeTopicConfigs(a.ctx, topic)
	if err != nil {
		return nil, err
	}
	r, err := described.On(topic, nil)
	if err == nil {
		err = kafkaclient.WithMessage(r.Err, r.ErrMessage)
	}
	configs := map[string]string{}
	for _, c := range r.Configs {
		if c.Value != nil {
			configs[c.Key] = *c.Value
		}
	}
	return configs, err
}

// knownConfigs returns the configs of any topic: their names tell which ones the brokers know.
func (a *asker) knownConfigs() (map[string]string, error) {
	if a.known != nil {
		return a.known, nil
	}
	topic := a.anyTopic()
	if topic == "" {
		return nil, errors.New("there is no topic yet whose configs could be looked at")
	}
	configs, err := a.topicConfigs(topic)
	if err == nil {
		a.known = configs
	}
	return configs, err
}

// validate asks the cluster whether it would create a topic with these configs.
func (a *asker) validate(configs map[string]string) error {
	created, err := a.admin.ValidateCreateTopics(a.ctx, 1, -1, linkconfig.Pointers(configs), checkTopic)
	if err != nil {
		return err
	}
	r := created[checkTopic]
	return kafkaclient.WithMessage(r.Err, r.ErrMessage)
}

// takes returns whether the cluster takes these configs of a topic, those that it knows. If not, it
// names the ones that it refuses by themselves.
func (a *asker) takes(configs map[string]string) verdict {
	if v, cannot := a.notOffered(kmsg.CreateTopics, 0); cannot {
		return v
	}
	known, err := a.knownConfigs()
	if err != nil {
		return unknown("%s", err)
	}
	configs = maps.Clone(configs)
	maps.DeleteFunc(configs, func(name, _ string) bool { _, knows := known[name]; return !knows })
	err = a.validate(configs)
	switch {
	case err == nil:
		return ok("validated")
	case isDenied(err):
		return unknown("the user may not create topic %s, so the brokers do not say; nothing would be created", checkTopic)
	case !errors.Is(err, kerr.PolicyViolation) && !errors.Is(err, kerr.InvalidConfig) && !errors.Is(err, kerr.InvalidRequest):
		return unknown("could not validate a topic: %s", err)
	}
	if refused := topicconfig.Refused(configs, a.validate); len(refused) > 0 {
		return missing("refused: %s: %s", strings.Join(refused, ", "), err)
	}
	return missing("refused: %s", err)
}

func keepsBatches(a *asker) verdict {
	known, err := a.knownConfigs()
	if err != nil {
		return unknown("%s", err)
	}
	configs := map[string]string{}
	for name, value := range linkconfig.Overridden {
		if name != linkconfig.MessageFormat || linkconfig.FormatMatters(known[name]) {
			configs[name] = value
		}
	}
	return a.takes(configs)
}

func compacts(a *asker) verdict {
	if configs, err := a.topicConfigs(stateName); err == nil && configs["cleanup.policy"] == "compact" {
		return ok("topic %s has it", stateName)
	}
	return a.takes(map[string]string{"cleanup.policy": "compact"})
}

func lags(a *asker) verdict {
	known, err := a.knownConfigs()
	if err != nil {
		return unknown("%s", err)
	}
	if _, knows := known[linkconfig.MinLagConfig]; !knows {
		return missing("the brokers do not know %s", linkconfig.MinLagConfig)
	}
	return a.takes(map[string]string{"cleanup.policy": "compact", linkconfig.MinLagConfig: "600000", linkconfig.MaxLagConfig: "9223372036854775807"})
}

func keepsForEver(a *asker) verdict {
	return a.takes(map[string]string{"retention.ms": "-1", "retention.bytes": "-1"})
}

// usualLimit is the default of max.message.bytes of Apache Kafka, up to 2.4; later it is 1048588.
const usualLimit = 1000012

func takesLargeBatches(a *asker) verdict {
	known, err := a.knownConfigs()
	if err != nil {
		return unknown("%s", err)
	}
	limit, err := strconv.ParseInt(known["max.message.bytes"], 10, 64)
	switch {
	case err != nil:
		return unknown("the brokers do not tell max.message.bytes of topics")
	case limit < usualLimit:
		return missing("topics take batches of %d bytes, fewer than with Apache Kafka's default, %d", limit, usualLimit)
	}
	return ok("topics take batches of %d bytes, unless they say otherwise; klink check --link compares", limit)
}

// batchesFit compares the sources' limits with those of the mirrors.
func batchesFit(a *asker) verdict {
	if len(a.Largest) == 0 {
		return unknown("the link has no mirror yet")
	}
	var small []string
	for _, topic := range a.Topics {
		there, mirrored := a.Largest[topic]
		if !mirrored {
			continue
		}
		configs, err := a.topicConfigs(topic)
		if err != nil {
			return unknown("configs of topic %s at the source: %s", topic, err)
		}
		if here, err := strconv.ParseInt(configs["max.message.bytes"], 10, 64); err == nil && here > there {
			small = append(small, fmt.Sprintf("%s: %d at the source, %d at the destination", topic, here, there))
		}
	}
	if len(small) > 0 {
		return missing("max.message.bytes of %s", strings.Join(small, "; "))
	}
	return ok("max.message.bytes of %d mirrors compared", len(a.Largest))
}

func replicasSuffice(a *asker) verdict {
	asked := 0
	for _, topic := range append([]string{stateName}, a.Topics...) {
		t := a.topics[topic]
		if t.err != nil || t.replicas == 0 {
			continue
		}
		configs, err := a.topicConfigs(topic)
		if err != nil {
			return unknown("configs of topic %s: %s", topic, err)
		}
		least, err := strconv.Atoi(configs["min.insync.replicas"])
		if err != nil {
			continue
		}
		if asked++; least > t.replicas {
			return missing("topic %s has %d replicas, and min.insync.replicas=%d", topic, t.replicas, least)
		}
	}
	if asked == 0 {
		return unknown("there is no topic of klink yet, or the brokers do not tell")
	}
	return ok("%d topics asked", asked)
}

// brokerConfigs are configs of a broker, or why they are not known.
type brokerConfigs struct {
	values map[string]string
	err    error
}

// brokerConfig returns a number from the configs of a broker. The verdict says why there is none.
func (a *asker) brokerConfig(name string) (int64, verdict) {
	if v, cannot := a.notOffered(kmsg.DescribeConfigs, 0); cannot {
		return 0, v
	}
	if a.broker == nil {
		a.broker = a.describeBroker()
	}
	err := a.broker.err
	if isDenied(err) {
		return 0, unknown("the user may not see the configs of brokers: DescribeConfigs on the cluster, which klink needs for nothing else")
	}
	n, notNumber := strconv.ParseInt(a.broker.values[name], 10, 64)
	if err != nil || notNumber != nil {
		return 0, unknown("the brokers do not tell %s", name)
	}
	return n, verdict{}
}

func (a *asker) describeBroker() *brokerConfigs {
	b := &brokerConfigs{values: map[string]string{}}
	brokers, err := a.admin.ListBrokers(a.ctx)
	if err != nil || len(brokers) == 0 {
		b.err = errors.Join(err, errors.New("no broker"))
		return b
	}
	described, err := a.admin.DescribeBrokerConfigs(a.ctx, brokers[0].NodeID)
	if err != nil {
		b.err = err
		return b
	}
	for _, r := range described {
		b.err = errors.Join(b.err, r.Err)
		for _, c := range r.Configs {
			if c.Value != nil {
				b.values[c.Key] = *c.Value
			}
		}
	}
	return b
}

func allowsSession(a *asker) verdict {
	least, v := a.brokerConfig("group.min.session.timeout.ms")
	if v.state != "" {
		return v
	}
	most, v := a.brokerConfig("group.max.session.timeout.ms")
	switch ms := a.Session.Milliseconds(); {
	case v.state != "":
		return v
	case ms != 0 && (ms < least || ms > most):
		return missing("the brokers allow %d to %d ms, --session-timeout is %d ms", least, most, ms)
	}
	return ok("the brokers allow %d to %d ms", least, most)
}

// transactionMs is the time-out of klink's transactions on the state topic.
const transactionMs = 15_000

func allowsTransaction(a *asker) verdict {
	most, v := a.brokerConfig("transaction.max.timeout.ms")
	switch {
	case v.state != "":
		return v
	case most < transactionMs:
		return missing("%d ms, klink needs %d ms", most, transactionMs)
	}
	return ok("%d ms", most)
}

// usualRetention is the default of offsets.retention.minutes of Apache Kafka: a week.
const usualRetention = 10080

func keepsOffsets(a *asker) verdict {
	minutes, v := a.brokerConfig("offsets.retention.minutes")
	switch {
	case v.state != "":
		return v
	case minutes < usualRetention:
		return missing("%d minutes, less than Apache Kafka's default, %d", minutes, usualRetention)
	}
	return ok("%d minutes", minutes)
}

// storedAsSent looks at the last batch of mirrors: whether it has klink's stamp.
func storedAsSent(a *asker) verdict {
	without := 0
	for _, topic := range a.Topics {
		ends, err := a.admin.ListEndOffsets(a.ctx, topic)
		if err != nil {
			continue
		}
		for _, end := range ends[topic] {
			if end.Err != nil || end.Offset <= 0 {
				continue
			}
			switch stamped, err := a.stamped(topic, end.Partition, end.Offset-1); {
			case err != nil:
			case stamped:
				return ok("topic %s has klink's stamps", topic)
			default:
				without++
			}
		}
	}
	if without > 0 {
		return unknown("%d logs end with a batch that is not klink's", without)
	}
	return unknown("no mirror has a record yet; this cannot be asked without appending one")
}

// stamped reports whether the batch with an offset has klink's stamp.
func (a *asker) stamped(topic string, partition int32, offset int64) (bool, error) {
	meta, err := a.admin.ListTopics(a.ctx, topic)
	if err != nil {
		return false, err
	}
	t := meta[topic]
	of := kafkaclient.OnePartition{Topic: topic, TopicID: t.ID, Partition: partition, Epoch: kafkaclient.AnyEpoch}
	got, err := of.Fetch(a.ctx, a.Client.Broker(int(t.Partitions[partition].Leader)), offset, kafkaclient.FetchBounds{MaxBytes: 1, PartitionMaxBytes: 1})
	if err != nil || len(got.RecordBatches) < batch.HeaderSize {
		return false, errors.Join(err, errors.New("no batch"))
	}
	_, _, _, stamped := batch.ReadStamp(got.RecordBatches)
	return stamped, nil
}
