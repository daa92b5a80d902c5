package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sourceerror"
	"klink/admin/store"
	"klink/admin/topicconfig"
	"klink/internal/kafkaclient"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Source is a client of a link's source, for one request or for the tasks of the link.
type Source struct {
	link      string
	Address   string // bootstrap.servers of the link
	Client    *kgo.Client
	Admin     *kadm.Client // of Client
	ClusterID string       // as last learned
	dial      *kafkaclient.DialTrouble
	closing   sync.Once
}

// Connect connects to the source that configs describe and learns its cluster id. The error
// says which address failed and how, and what to check. files are those that links may name.
func Connect(ctx context.Context, files kafkaclient.Files, link string, configs map[string]string) (*Source, *protocol.Error) {
	opts, err := linkconfig.ClientOptions(linkconfig.SourceProperties(configs), files)
	if err != nil {
		return nil, protocol.Errorf(kerr.InvalidConfig, "link %q: %s", link, err)
	}
	s := &Source{link: link, Address: configs[linkconfig.ConfigBootstrapServers], dial: &kafkaclient.DialTrouble{}}
	s.Client, err = kgo.NewClient(append(opts, kafkaclient.FreshMetadata, kgo.RequestRetries(2), kgo.WithHooks(s.dial))...)
	if err != nil {
		return nil, protocol.Errorf(kerr.InvalidConfig, "link %q: %s", link, err)
	}
	s.Admin = kadm.NewClient(s.Client)
	err = s.learnCluster(ctx)
	if err != nil {
		defer s.Close()
		if errors.Is(err, io.EOF) && strings.HasPrefix(strings.ToUpper(configs["security.protocol"]), "SASL_") {
			// Some brokers hang up on wrong credentials. Java clients make the same guess.
			err = fmt.Errorf("%w: the broker closed the connection during the login", kerr.SaslAuthenticationFailed)
		}
		return nil, s.Failed("connect", err)
	}
	return s, nil
}

// learnCluster asks the source which cluster it is. It asks for authorized operations, because
// otherwise kadm answers from a cache, even while the source is down.
func (s *Source) learnCluster(ctx context.Context) error {
	defer s.CloseAfter(ctx)()
	meta, err := s.Admin.BrokerMetadata(kadm.WithAuthorizedOps(ctx))
	if err == nil {
		s.ClusterID = meta.Cluster
	} else if ctx.Err() != nil {
		err = ctx.Err()
	}
	return err
}

// Identify asks the source whether it is still there, and which cluster it is.
func (s *Source) Identify(ctx context.Context) *protocol.Error {
	if err := s.learnCluster(ctx); err != nil {
		return s.Failed("connect", err)
	}
	return nil
}

// Close ends requests under way, and returns when nothing of the client is left.
func (s *Source) Close() { s.closing.Do(s.Client.Close) }

// CloseAfter closes the source when ctx ends, unless stop is called before; stop reports whether
// the source is still open. The client alone notices the end of a request's context only once it
// has a connection: if a broker accepts the connection and then says nothing, the client waits for
// many seconds.
func (s *Source) CloseAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, s.Close)
}

// Failed returns the error for a request to the source that failed.
func (s *Source) Failed(what string, err error) *protocol.Error {
	if last := s.dial.Last(); last != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		err = last
	}
	name, advice := Classify(err)
	// The text may be the source's own, of any length.
	return protocol.Errorf(errorCode(name), "%s: source %s of link %q: could not %s: %.500s; %s", name, s.Address, s.link, what, err.Error(), advice)
}

// Classify names why a source cannot be used, and says what to check.
func Classify(err error) (name model.Error, advice string) {
	trouble := kafkaclient.Classify(err)
	return sourceerror.Code(trouble), adviceFor[trouble]
}

// adviceFor says what to check for each kind of trouble.
var adviceFor = map[kafkaclient.Trouble]string{
	kafkaclient.TroubleToken:        "check sasl.oauthbearer.token.endpoint.url, the client id and secret, and that the endpoint is up",
	kafkaclient.TroubleAWS:          "check the options aws* in sasl.jaas.config, and the AWS credentials of klink's machine if the link uses them",
	kafkaclient.TroubleLogin:        "check sasl.mechanism and sasl.jaas.config",
	kafkaclient.TroubleTLS:          "check security.protocol, ssl.truststore.location and ssl.endpoint.identification.algorithm",
	kafkaclient.TroubleClosedAtOnce: "check that security.protocol matches the listener",
	kafkaclient.TroubleDenied:       "grant the link's user DESCRIBE, DESCRIBE_CONFIGS and READ on the topic",
	kafkaclient.TroubleConnect:      "check bootstrap.servers, the network, and that the brokers are up",
	kafkaclient.TroubleTimeout:      "check bootstrap.servers and the network, or allow more time",
	kafkaclient.TroubleLost:         "check that the brokers are up, and security.protocol",
	kafkaclient.TroubleNotKafka:     "check security.protocol, and that bootstrap.servers points to Kafka listeners",
	kafkaclient.TroubleNotOffered:   "klink check --link says what is lost without it",
	kafkaclient.TroubleOther:        "see klink's log",
}

// errorCode returns the Kafka error code of a response to a request that failed because of
// the source.
func errorCode(name model.Error) *kerr.Error {
	switch name {
	case model.ErrAuthentication:
		return kerr.InvalidConfig
	case model.ErrTimeout:
		return kerr.RequestTimedOut
	case model.ErrBootstrapConnection:
		return kerr.BrokerNotAvailable
	case model.ErrAuthorization:
		return kerr.TopicAuthorizationFailed
	case model.ErrUnsupportedVersion:
		return kerr.UnsupportedVersion
	}
	return kerr.UnknownServerError
}

// Topic is what klink has to know about a topic of the source to make a mirror of it.
type Topic struct {
	ID      [16]byte
	Configs map[string]linkconfig.TopicConfig
	Starts  []int64 // where a mirror begins, by partition
}

// Topic asks the source for everything about a topic that its mirror needs. start is the link's
// mirror.start.offset.spec.
func (s *Source) Topic(ctx context.Context, topic, start string) (*Topic, *protocol.Error) {
	meta, err := s.Admin.Metadata(ctx, topic)
	if err != nil {
		return nil, s.Failed("list topic '"+topic+"'", err)
	}
	t, ok := meta.Topics[topic]
	if !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "the source of link %q has no topic '%s' that the link's user may describe", s.link, topic)
	}
	if t.Err != nil {
		return nil, s.Failed("describe topic '"+topic+"'", t.Err)
	}
	st := &Topic{ID: t.ID, Starts: make([]int64, len(t.Partitions))}
	if len(t.Partitions) > store.MaxPartitions {
		return nil, protocol.Errorf(kerr.InvalidPartitions, "topic '%s' has %d partitions at the source of link %q; klink mirrors at most %d", topic, len(t.Partitions), s.link, store.MaxPartitions)
	}
	if st.Configs, err = topicconfig.Describe(ctx, s.Admin, topic); err != nil {
		return nil, s.Failed("describe the configs of topic '"+topic+"'", err)
	}
	offsets, err := s.listStarts(ctx, topic, start)
	if err != nil {
		return nil, s.Failed("list the offsets of topic '"+topic+"'", err)
	}
	for p := range st.Starts {
		o, ok := offsets.Lookup(topic, int32(p))
		if !ok {
			o.Err = fmt.Errorf("no answer for partition %d", p)
		}
		if o.Err != nil {
			return nil, s.Failed(fmt.Sprintf("list the offsets of partition %d of topic '%s'", p, topic), o.Err)
		}
		st.Starts[p] = o.Offset
	}
	return st, nil
}

// listStarts asks for the offset at which a mirror of each partition of a topic begins.
//
// latest is the high watermark, not the last stable offset. Either way, everything written from now
// on is mirrored. Of a transaction that is open now only the records from here on are mirrored, as
// a read_uncommitted consumer that begins at latest would see them. The last stable offset would
// also bring in old records of other producers, possibly very many.
func (s *Source) listStarts(ctx context.Context, topic, spec string) (kadm.ListedOffsets, error) {
	switch spec {
	case linkconfig.StartEarliest:
		return s.Admin.ListStartOffsets(ctx, topic)
	case linkconfig.StartLatest:
		return s.Admin.ListEndOffsets(ctx, topic)
	}
	ms, err := linkconfig.StartTime(spec)
	if err != nil {
		return nil, err
	}
	// If no record is that late, this is the end.
	return s.Admin.ListOffsetsAfterMilli(ctx, ms, topic)
}
