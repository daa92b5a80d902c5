package kafkaclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

const (
	// triedAtOnce is how many brokers are tried at the same time.
	triedAtOnce = 16
	// enoughFailures: once so many brokers have failed, the others are not tried. A cluster names
	// addresses as it likes, and klink must not scan a network on its behalf.
	enoughFailures = 16
	// tryTimeout bounds one trial. It allows for seven round trips to the other side of the world.
	tryTimeout = 10 * time.Second
	// shownBrokers is how many brokers an error names.
	shownBrokers = 5
)

// ErrNotTried is the error of a broker that TryBrokers did not get to.
var ErrNotTried = errors.New("not tried")

// TriedBroker is a broker of a cluster, and what came of a connection to it.
type TriedBroker struct {
	ID   int32
	Addr string // host:port that it advertises
	Err  error  // nil = it answers
}

// TryBrokers asks the cluster of client for its brokers, and connects to each of them at the
// address that it advertises, as every client does: name, TCP, TLS, login, ApiVersions. The result
// is in the order of ids. The error is that of the question.
func TryBrokers(ctx context.Context, client *kgo.Client) ([]TriedBroker, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; null would be all
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	tried := make([]TriedBroker, len(resp.Brokers))
	for i, b := range resp.Brokers {
		tried[i] = TriedBroker{ID: b.NodeID, Addr: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), Err: ErrNotTried}
	}
	slices.SortFunc(tried, func(a, b TriedBroker) int { return int(a.ID) - int(b.ID) })
	var (
		trials   errgroup.Group
		failures atomic.Int32
	)
	trials.SetLimit(triedAtOnce)
	for i := range tried {
		if ctx.Err() != nil || failures.Load() >= enoughFailures {
			break
		}
		trials.Go(func() error {
			if ctx.Err() != nil || failures.Load() >= enoughFailures {
				return nil
			}
			if tried[i].Err = tryBroker(ctx, client, tried[i].ID); tried[i].Err != nil {
				failures.Add(1)
			}
			return nil
		})
	}
	return tried, trials.Wait()
}

func tryBroker(ctx context.Context, client *kgo.Client, id int32) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", "1" // empty ones are refused
	resp, err := req.RequestWith(ctx, client.Broker(int(id)))
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// BrokersError says which brokers of a cluster cannot be used at the addresses that they advertise.
type BrokersError struct {
	Failed []TriedBroker // not empty
	All    int           // brokers of the cluster
}

// FailedBrokers returns a BrokersError about those that failed, nil if none did.
func FailedBrokers(tried []TriedBroker) *BrokersError {
	e := &BrokersError{All: len(tried)}
	for _, b := range tried {
		if b.Err != nil && !errors.Is(b.Err, ErrNotTried) {
			e.Failed = append(e.Failed, b)
		}
	}
	for _, b := range tried {
		if errors.Is(b.Err, ErrNotTried) {
			e.Failed = append(e.Failed, b)
		}
	}
	if len(e.Failed) == 0 {
		return nil
	}
	return e
}

// Error implements error. It has nothing that the network said: the addresses are the choice of
// the cluster, and whoever reads the error may have no business with what answers there.
func (e *BrokersError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d brokers cannot be used at the address that they advertise: ", len(e.Failed), e.All)
	var advice []string
	for i, b := range e.Failed {
		if i == shownBrokers {
			fmt.Fprintf(&text, "; and %d more", len(e.Failed)-i)
			break
		}
		if i > 0 {
			text.WriteString("; ")
		}
		text.WriteString(b.String())
		if _, a := AddressTrouble(b.Err); !slices.Contains(advice, a) {
			advice = append(advice, a)
		}
	}
	return text.String() + "; " + strings.Join(advice, "; ")
}

// String says what came of the trial, without advice.
func (b TriedBroker) String() string {
	said := "it answers"
	if b.Err != nil {
		said, _ = AddressTrouble(b.Err)
	}
	return fmt.Sprintf("broker %d at %s: %s", b.ID, ShownAddress(b.Addr), said)
}

// ShownAddress returns an address that a broker advertises in a form that can be shown: it may have
// any bytes, and any length.
func ShownAddress(addr string) string {
	if len(addr) > 262 || !address.MatchString(addr) { // a DNS name has at most 255 bytes
		return fmt.Sprintf("%.262q", addr)
	}
	return addr
}

// AddressTrouble says why a broker cannot be used at the address that it advertises, and what to
// look at. Neither has anything that the network said.
func AddressTrouble(err error) (kind, advice string) {
	const listeners = "advertised.listeners of the broker"
	var (
		dns     *net.DNSError
		host    x509.HostnameError
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, ErrNotTried):
		return "not tried", "mend the others first, or allow more time"
	case errors.As(err, &dns):
		return "its name cannot be resolved", "check " + listeners + ", and the DNS where klink runs"
	case errors.As(err, &host):
		return "its certificate is not for this host name", "check " + listeners +
			" and the names in its certificate, or set ssl.endpoint.identification.algorithm to empty"
	case errors.As(err, &verify), errors.As(err, &unknown):
		return "its certificate is not trusted", "check ssl.truststore.location, and that the certificates of all brokers come from the same CA"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "check " + listeners + ", and that it listens there"
	}
	switch Classify(err) {
	case TroubleLogin:
		return "it refuses the login", "check sasl.mechanism and sasl.jaas.config, and that every broker knows the user"
	case TroubleTLS:
		return "the TLS handshake fails", "check " + listeners + ", security.protocol and ssl.keystore.location"
	case TroubleDenied:
		return "it refuses the user", "check the ACLs of the user"
	case TroubleConnect:
		return "there is no way to it", "check " + listeners + ", the routes and the firewall"
	case TroubleTimeout:
		return "timed out", "check " + listeners + ", the routes and the firewall"
	case TroubleClosedAtOnce, TroubleLost:
		return "it closes the connection", "check " + listeners + ", and that security.protocol and the credentials fit the listener"
	case TroubleNotKafka:
		return "what answers there is not a Kafka broker that klink can use", "check " + listeners + " and security.protocol"
	}
	return "it cannot be used", "check " + listeners
}
