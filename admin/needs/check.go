package needs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options say which cluster to check, and as what.
type Options struct {
	Side   Side
	Client *kgo.Client // with the credentials that klink uses there
	// Topics are the mirrors at a destination, or the topics at a source that are mirrored. There
	// may be none yet.
	Topics []string
	// Groups reports whether the offsets of a group are synced; nil = of all groups.
	Groups func(group string) bool
	// Session is --session-timeout of klink; 0 = not known.
	Session time.Duration
	// Running: klink has read links and mirrors from the state topic, and has written there.
	Running bool
	// Largest is max.message.bytes of the mirrors at the destination, by topic; for a source only.
	Largest map[string]int64
}

// maxTopics bounds the topics, and the groups, that klink asks about.
const maxTopics = 200

// asker asks one cluster.
type asker struct {
	Options
	ctx   context.Context
	admin *kadm.Client

	versions map[int16]span         // of the APIs that all brokers offer
	lacking  map[int16]bool         // offered by some brokers only
	topics   map[string]topicRights // what the cluster has said so far
	known    map[string]string      // configs of a topic; see knownConfigs
	broker   *brokerConfigs         // see brokerConfig
}

// span is the versions of an API that all brokers offer.
type span struct{ min, max int16 }

// Check asks a cluster for all that klink needs of it. The error says that the cluster could not be
// asked at all. What only one need depends on makes that need unknown.
func Check(ctx context.Context, o Options) (cluster string, found []linkapi.ClusterNeed, err error) {
	a := &asker{Options: o, ctx: ctx, admin: kadm.NewClient(o.Client), topics: map[string]topicRights{}}
	slices.Sort(a.Topics)
	a.Topics = a.Topics[:min(len(a.Topics), maxTopics)]
	if err := a.learnVersions(); err != nil {
		return "", nil, err
	}
	a.learnTopics()
	if meta, err := a.admin.BrokerMetadata(ctx); err == nil {
		cluster = meta.Cluster
	}
	for _, n := range Table(o.Side) {
		v := unknown("the cluster did not answer in time")
		if ctx.Err() == nil {
			v = a.ask(n)
		}
		if v.state == linkapi.NeedUnknown && n.proven && a.Running {
			v = verdict{linkapi.NeedOK, "klink runs with it"}
		}
		found = append(found, linkapi.ClusterNeed{
			Side: string(o.Side), Kind: n.Kind, Name: n.Name, Use: n.Use, Required: n.Required,
			State: v.state, Consequence: n.Lost, Detail: printable(v.detail),
		})
	}
	return cluster, found, nil
}

func (a *asker) ask(n Need) verdict {
	switch n.Kind {
	case KindAPI:
		return a.askAPI(n.api)
	case KindRight:
		return a.askRight(n.right)
	}
	return n.limit(a)
}

// maxDetail bounds a detail: it may have the text of a broker, of any length.
const maxDetail = 500

func printable(detail string) string {
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + " ..."
	}
	return detail
}

func ok(format string, args ...any) verdict {
	return verdict{linkapi.NeedOK, fmt.Sprintf(format, args...)}
}

func missing(format string, args ...any) verdict {
	return verdict{linkapi.NeedMissing, fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) verdict {
	return verdict{linkapi.NeedDenied, fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) verdict {
	return verdict{linkapi.NeedUnknown, fmt.Sprintf(format, args...)}
}

// of turns the error of a request into a verdict on what the request was for.
func of(err error) verdict {
	switch {
	case err == nil:
		return ok("")
	case isDenied(err):
		return denied("%s", err)
	case errors.Is(err, kerr.UnsupportedVersion), errors.Is(err, kerr.InvalidRequest), errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidConfig):
		return missing("%s", err)
	case errors.Is(err, kerr.SecurityDisabled):
		return missing("the cluster has no authorizer: %s", err)
	}
	return unknown("could not ask: %s", err)
}

func isDenied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) ||
		errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(err, kerr.TransactionalIDAuthorizationFailed)
}

// notOffered is the verdict on what only an API can tell that brokers do not offer; ok is false if
// they do offer it.
func (a *asker) notOffered(key kmsg.Key, least int16) (verdict, bool) {
	if s, offered := a.versions[int16(key)]; offered && s.max >= least {
		return verdict{}, false
	}
	return unknown("the brokers cannot be asked: they do not offer %s v%d", key.Name(), least), true
}
