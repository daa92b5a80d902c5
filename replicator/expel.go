package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/retry"
)

// errStranger: the leader of the group is not an instance of klink.
var errStranger = errors.New("the leader of the group is not an instance of klink")

// expel removes strangers from the group. If one stayed, it could hold up each generation for the
// rebalance time-out that it gave when it joined.
func (m *member) expel(ctx context.Context, node int32, strangers []string) {
	ctx, cancel := context.WithTimeout(ctx, m.answerTimeout())
	defer cancel()
	for _, id := range strangers {
		if err := m.remove(ctx, node, id); err != nil && ctx.Err() == nil {
			m.log.Debug("could not remove a member that is not an instance of klink from the group", "member", id, "error", err)
		}
	}
}

// stranger warns, at most every 10 s, of a member that is not an instance of klink.
func (m *member) stranger(what, member string) {
	if time.Since(m.warned) > 10*time.Second {
		m.warned = time.Now()
		m.log.Warn(what+"; allow only klink's principal to READ the group at the brokers", "group", m.group, "member", fmt.Sprintf("%.100q", member))
	}
}

// depose removes the leader from the group. The coordinator then begins a new generation, in which
// another member leads.
func (m *member) depose(ctx context.Context) error {
	if m.leader == m.id {
		return fmt.Errorf("SyncGroup: %w", errStranger) // a stranger has spoken for this member
	}
	ctx, cancel := context.WithTimeout(ctx, m.answerTimeout())
	defer cancel()
	if err := m.remove(ctx, m.node, m.leader); err != nil {
		return fmt.Errorf("%w, and could not be removed: %w", errStranger, err)
	}
	return fmt.Errorf("SyncGroup: %w", errStranger)
}

// remove removes a member from the group.
func (m *member) remove(ctx context.Context, node int32, id string) error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = m.group, id // up to v2
	gone := kmsg.NewLeaveGroupRequestMember()
	gone.MemberID = id
	req.Members = append(req.Members, gone)
	resp, err := m.client.Broker(int(node)).Request(ctx, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.(*kmsg.LeaveGroupResponse).ErrorCode)
}

// predecessors returns the members of the group that have this instance's name. They are this
// instance before it was killed. They cannot be alive: this process has the name now, by the
// settings or by the address on which it listens.
func (m *member) predecessors(ctx context.Context) (ids []string) {
	_, members := m.describe(ctx, m.node)
	for _, other := range members {
		if other.ClientID == m.clientID && other.MemberID != m.id {
			ids = append(ids, other.MemberID)
		}
	}
	return ids
}

func (m *member) describe(ctx context.Context, node int32) (state string, members []kmsg.DescribeGroupsResponseGroupMember) {
	ctx, cancel := context.WithTimeout(ctx, m.answerTimeout())
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{m.group}
	kresp, err := m.client.Broker(int(node)).Request(ctx, req)
	if err != nil {
		return "", nil
	}
	if resp := kresp.(*kmsg.DescribeGroupsResponse); len(resp.Groups) == 1 && resp.Groups[0].ErrorCode == 0 {
		return resp.Groups[0].State, resp.Groups[0].Members
	}
	return "", nil
}

// bury removes dead predecessors from the group once the coordinator has received this member's own
// JoinGroup. If they left earlier the group could become empty, and whoever joins an empty group
// waits for group.initial.rebalance.delay.ms.
func (m *member) bury(ctx context.Context, node int32, dead []string) {
	for state := ""; state != "PreparingRebalance"; {
		if retry.Sleep(ctx, 10*time.Millisecond) != nil {
			return
		}
		state, _ = m.describe(ctx, node)
	}
	for _, id := range dead {
		if err := m.remove(ctx, node, id); err != nil && ctx.Err() == nil {
			m.log.Debug("could not remove a dead member of the group; it stays until its session times out", "member", id, "error", err)
		}
	}
}
