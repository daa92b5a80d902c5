package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// listedGroup is a group as a cluster lists it.
type listedGroup struct {
	state string // "" = the broker is older than Kafka 2.6, and does not say
	kind  string // classic, consumer, share, streams; "" = older than 3.8, so classic
}

// active reports whether the group has members, so that nobody else can commit for it. It is false
// if the state is not known.
func (g listedGroup) active() bool {
	switch strings.ToLower(g.state) {
	case "", "empty", "dead", "unknown":
		return false
	}
	return true
}

// ownPrefix is the prefix of klink's own topics, groups and transactional ids, at any cluster.
const ownPrefix = "_klink_"

// isOwnName reports whether a name is reserved for klink, at this cluster or for a klink in front
// of another one.
func isOwnName(name string) bool { return strings.HasPrefix(name, ownPrefix) }

// listGroupsOf lists all groups that the client may see, with one request to each broker. It leaves
// out klink's own groups, so that no offset is ever carried over to a group of klink's instances.
// If some brokers fail, it returns the groups of the others together with an error.
func listGroupsOf(ctx context.Context, client *kgo.Client) (map[string]listedGroup, error) {
	groups := map[string]listedGroup{}
	var errs []error
	for _, shard := range client.RequestSharded(ctx, kmsg.NewPtrListGroupsRequest()) {
		err := shard.Err
		if err == nil {
			resp := shard.Resp.(*kmsg.ListGroupsResponse)
			err = kerr.ErrorForCode(resp.ErrorCode)
			for _, g := range resp.Groups {
				if isOwnName(g.Group) {
					continue
				}
				groups[g.Group] = listedGroup{g.GroupState, strings.ToLower(g.GroupType)}
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("could not list the groups of broker %d: %w", shard.Meta.NodeID, err))
		}
	}
	return groups, errors.Join(errs...)
}
