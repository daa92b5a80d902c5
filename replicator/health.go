package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"klink/admin/model"
	"klink/admin/sourceerror"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/core"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// Two checks tell whether a source is there. Source.check asks any broker for metadata: without an
// answer the link is down. The brokers that lead mirrored partitions are checked one by one, since
// each has an address of its own: if one fails, the link is UNAVAILABLE with
// BROKER_UNREACHABLE_ERROR, and so are the mirrors with a partition there. The others go on.
//
// A fetch that was answered is a check. Only a broker without such an answer gets a connection for
// the purpose. A link without mirrors checks all brokers, a few at a time: any of them may lead
// what will be mirrored.

const (
	// brokerTimeout bounds one check of a broker. Unlike a request on an existing connection it
	// takes up to seven round trips.
	brokerTimeout = 5 * time.Second
	// brokersAtOnce is how many brokers are checked at the same time, and unledAtOnce how many in a
	// round of those that lead nothing that is mirrored.
	brokersAtOnce = 64
	unledAtOnce   = 16
)

// brokerHealth is what the checks of one broker found.
type brokerHealth struct {
	led      bool      // it leads a mirrored partition
	failures int       // in a row
	err      error     // of the last check
	failed   time.Time // when failures reached the link's threshold
	due      time.Time // of the next check, unless a fetch waits for the broker
}

// watchBrokers checks the brokers until ctx ends.
func (s *source) watchBrokers(ctx context.Context) {
	for retry.Sleep(ctx, s.cfg.CheckInterval) == nil {
		var checks errgroup.Group
		checks.SetLimit(brokersAtOnce)
		for _, broker := range s.brokersDue(time.Now()) {
			checks.Go(func() error {
				s.checked(ctx, broker, s.tryBroker(ctx, broker))
				return nil
			})
		}
		_ = checks.Wait()
	}
}

// brokersDue returns the brokers that need a connection to be checked now.
func (s *source) brokersDue(now time.Time) (due []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unled := 0
	for id, b := range s.brokers {
		f := s.fetchers[id]
		switch {
		case !s.health.up: // the check of the whole source says what there is to say
			continue
		case f != nil && now.Sub(time.Unix(0, f.answeredAt.Load())) < s.cfg.CheckInterval+s.cfg.MaxWait:
			b.failures, b.err = 0, nil
			continue
		case b.failures == 0 && now.Before(b.due) && (f == nil || !f.waits.Load()):
			continue
		case !b.led && unled == unledAtOnce:
			continue
		case !b.led:
			unled++
		}
		b.due = now.Add(s.cfg.MetadataMaxAge)
		due = append(due, id)
	}
	s.sayBrokers()
	return due
}

// tryBroker connects to a broker where it advertises to be, and logs in.
func (s *source) tryBroker(ctx context.Context, broker int32) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	addr, err := s.at.of(broker)
	if err != nil {
		return err
	}
	conn, err := s.dialer.Connect(ctx, addr)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}

// checked notes the result of a check.
func (s *source) checked(ctx context.Context, broker int32, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.log.Debug("a broker of the source cannot be used at the address that it advertises", "broker", broker, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.brokers[broker]
	switch {
	case b == nil:
		return
	case err == nil:
		b.failures, b.err = 0, nil
	default:
		b.failures, b.err = b.failures+1, err
		if b.failures == s.cfg.CheckThreshold {
			b.failed = time.Now()
		}
	}
	s.sayBrokers()
}

// sayBrokers sets what health says about brokers; s.mu is held.
func (s *source) sayBrokers() {
	e := kafkaclient.BrokersError{All: len(s.brokers)}
	for id, b := range s.brokers {
		if s.down(b) {
			addr, _ := s.at.of(id)
			e.Failed = append(e.Failed, kafkaclient.TriedBroker{ID: id, Addr: addr, Err: b.err})
		}
	}
	said := ""
	if len(e.Failed) > 0 {
		slices.SortFunc(e.Failed, func(a, b kafkaclient.TriedBroker) int { return cmp.Compare(a.ID, b.ID) })
		said = "the source answers, but " + e.Error()
	}
	if said != s.health.brokers {
		s.health.brokers = said
		s.r.wake()
	}
}

// down reports whether a broker has failed as many checks as the link allows, and the source has
// answered since. Without that answer the whole source may be down, which its own check says.
func (s *source) down(b *brokerHealth) bool {
	return b != nil && b.err != nil && b.failures >= s.cfg.CheckThreshold && s.health.answered.After(b.failed)
}

// unreachable returns a failure if a partition of a mirror that is run here is led by a broker that
// cannot be reached.
func (s *source) unreachable(m *mirror) *core.Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.health.brokers == "" || !s.health.up {
		return nil
	}
	leaders := s.topics[m.sourceTopic].leaders
	for _, w := range m.all() {
		if int(w.id) >= len(leaders) {
			continue
		}
		if b := s.brokers[leaders[w.id]]; s.down(b) {
			addr, _ := s.at.of(leaders[w.id])
			kind, advice := kafkaclient.AddressTrouble(b.err)
			return core.Failf(model.ErrBrokerUnreachable, "partition %d of topic %q is led by broker %d of the source, which cannot be used at the address that it advertises, %s: %s; %s",
				w.id, m.sourceTopic, leaders[w.id], kafkaclient.ShownAddress(addr), kind, advice)
		}
	}
	return nil
}

// mirroredElsewhere returns the source topics of the link's mirrors that other instances run, if
// this one reports the link's health. none says that the link has no mirrors at all.
func (s *source) mirroredElsewhere(here map[string]bool) (topics map[string]bool, none bool) {
	if s.r.owner.term(group.LinkSlot(s.name)) == 0 {
		return nil, false
	}
	topics, none = map[string]bool{}, true
	st := s.r.cfg.Control.State()
	for _, m := range st.Mirrors {
		if m.Link == s.name && wanted(m, st.Links[s.name]) {
			if none = false; !here[m.SourceTopic] {
				topics[m.SourceTopic] = true
			}
		}
	}
	return topics, none
}

// setBrokers sets which brokers are checked: those that lead partitions of the topics, of which
// resp tells, or all if there are no topics.
func (s *source) setBrokers(resp *kmsg.MetadataResponse, all bool) {
	led := map[int32]bool{}
	for i := range resp.Topics {
		for k := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[k]; p.ErrorCode == 0 && p.Leader >= 0 {
				led[p.Leader] = true
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.brokers
	s.brokers = map[int32]*brokerHealth{}
	for i := range resp.Brokers {
		id := resp.Brokers[i].NodeID
		if !led[id] && !all {
			continue
		}
		b := before[id]
		if b == nil {
			b = &brokerHealth{}
		}
		b.led, s.brokers[id] = led[id], b
	}
	s.sayBrokers()
}

// classify names why a check of the source failed.
func (s *source) classify(err error) (model.Error, string) {
	dial := s.lastDial.Last()
	if dial != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		err = dial
	}
	// The source closed the connection during the login: some brokers do not say that they refuse
	// the credentials.
	if dial != nil && s.sasl && errors.Is(err, io.EOF) {
		return model.ErrAuthentication, fmt.Sprintf("the source closed the connection during the login: %v; check sasl.mechanism and sasl.jaas.config", err)
	}
	trouble := kafkaclient.Classify(err)
	return sourceerror.Code(trouble), fmt.Sprintf(sourceTrouble[trouble], err)
}

// sourceTrouble says, for each kind of trouble, what the source did and what to do about it.
var sourceTrouble = map[kafkaclient.Trouble]string{
	kafkaclient.TroubleToken:        "no access token to log in to the source with: %v; check sasl.oauthbearer.token.endpoint.url, the client id and secret, and that the endpoint is up",
	kafkaclient.TroubleAWS:          "the login to the source cannot be signed: %v; check the options aws* in sasl.jaas.config, and the AWS credentials of klink's machine if the link uses them",
	kafkaclient.TroubleLogin:        "the source refuses the link's credentials: %v; correct sasl.mechanism or sasl.jaas.config",
	kafkaclient.TroubleTLS:          "TLS with the source failed: %v; correct security.protocol or the truststore",
	kafkaclient.TroubleClosedAtOnce: "the source closed the connection at once: %v; security.protocol or the credentials do not match its listener",
	kafkaclient.TroubleDenied:       "the source refuses the link: %v",
	kafkaclient.TroubleConnect:      "could not connect to the source: %v; check bootstrap.servers, its listeners and the network",
	kafkaclient.TroubleTimeout:      "the source did not answer in time: %v",
	kafkaclient.TroubleLost:         "the connection to the source was lost: %v",
	kafkaclient.TroubleNotKafka:     "the source cannot be used: %v",
	kafkaclient.TroubleNotOffered:   "the source lacks an API that klink needs: %v",
	kafkaclient.TroubleOther:        "the source cannot be used: %v",
}
