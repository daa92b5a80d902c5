package groups

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Listed is a group as a cluster lists it.
type Listed struct {
	State string // "" = the broker is older than Kafka 2.6, and does not say
	Kind  string // classic, consumer, share, streams; "" = older than 3.8, so classic
}

// Active reports whether the group has members, so that nobody else can commit for it. It is false
// if the state is not known.
func (g Listed) Active() bool {
	switch strings.ToLower(g.State) {
	case "", "empty", "dead", "unknown":
		return false
	}
	return true
}

// List lists all groups that the client may see, with one request to each broker. It leaves
// out klink's own groups, so that no offset is ever carried over to a group of klink's instances.
// If some brokers fail, it returns the groups of the others together with an error.
func List(ctx context.Context, client *kgo.Client) (map[string]Listed, error) {
	groups := map[string]Listed{}
	var errs []error
	for _, shard := range client.RequestSharded(ctx, kmsg.NewPtrListGroupsRequest()) {
		err := kafkaclient.NotOffered(shard.Err, kmsg.ListGroups)
		if err == nil {
			resp := shard.Resp.(*kmsg.ListGroupsResponse)
			err = kerr.ErrorForCode(resp.ErrorCode)
			for _, g := range resp.Groups {
				if model.IsOwnName(g.Group) {
					continue
				}
				groups[g.Group] = Listed{g.GroupState, strings.ToLower(g.GroupType)}
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("could not list the groups of broker %d: %w", shard.Meta.NodeID, err))
		}
	}
	return groups, errors.Join(errs...)
}

// Names lists the groups of a cluster, klink's own included. It asks again while brokers cannot
// answer and ctx lasts. If some brokers do not answer, it returns the groups of the others together
// with an error.
func Names(ctx context.Context, admin *kadm.Client) ([]string, error) {
	for {
		listed, err := admin.ListGroups(ctx)
		if !TryAgain(ctx, err) {
			return listed.Groups(), err
		}
		if retry.Sleep(ctx, Pause) != nil {
			return listed.Groups(), err
		}
	}
}

// maxNamed bounds how many groups a message names.
const maxNamed = 5

// Named names the first few groups, and says how many more there are.
func Named(groups []string) string {
	named := strings.Join(groups[:min(len(groups), maxNamed)], ", ")
	if more := len(groups) - maxNamed; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return named
}
