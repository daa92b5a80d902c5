package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"klink/admin"
	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Group is how several instances share the work of one destination: they are the members of a
// consumer group there.
type Group struct {
	// ID is the name of the group; default TasksTopic.
	ID string
	// SessionTimeout is after how long without a sign of life an instance is replaced. Default 6 s.
	SessionTimeout time.Duration
	// Instance names this instance, for people, and so that one that was killed is known when it is
	// started again: its successor need not wait for the session time-out. No two that live may
	// have the same name. "" = none. It is asked for when Run begins.
	Instance func() string
	// Tasks are the tasks of a link that this instance owns, to be told to the others. May be nil.
	Tasks func(link string) []admin.TaskStatus
	// Drift is the config drift of a mirror whose link this instance owns, to be told to the
	// others. May be nil.
	Drift func(topic string) []admin.ConfigDrift
	// Heard is called when the coordinator has answered a member something that was sent at the
	// time sent: it counts the member for the time ttl after that, however clocks run. It must not
	// block. May be nil.
	Heard func(member string, sent time.Time, ttl time.Duration)
	// Changed is called when what is owned has changed (OwnsTopic, OwnsLink); it must not block.
	// May be nil.
	Changed func()
}

// name is the group's id.
func (g *Group) name() string { return cmp.Or(g.ID, TasksTopic) }

const (
	defaultSession = 6 * time.Second
	// rebalanceTimeout is how long a generation of the group waits for members that do not join it.
	rebalanceTimeout = 30 * time.Second
	// clientPrefix begins the client ids of members; the rest is the name of the instance.
	clientPrefix = "klink/"
)

// HeardFor is the ttl of Group.Heard: half of the session time-out, as who waits for an instance
// that left the group waits for so long again.
func HeardFor(session time.Duration) time.Duration { return session / 2 }

// ClientID is what an instance calls itself in the group.
func ClientID(instance string) string { return clientPrefix + instance }

// member is the membership of this instance in the group. It speaks the group protocol itself,
// rather than through a group consumer, because what it needs to know is what the coordinator has
// answered, and when that was asked for (lease).
//
// The protocol is cooperative: a member works on while a new generation of the group is made. It
// says what it holds when it joins, the leader (assign) gives nobody else any of that, and who is
// to give something away stops working on it, lets go of it, and joins once more.
//
// The group is open to everybody with READ on it at the brokers, who may join it, become its
// leader, and speak for another member whose id he has seen. Invariants, whatever such a stranger
// does:
//  1. Only an instance of klink is given slots, and only its claims count: claims have a proof
//     (groupKey).
//  2. Only the assignment of a leader that is an instance of klink counts. Where the leader is a
//     stranger, members gain nothing and go on with what they hold: nobody can have been given any
//     of that. They put the leader out of the group.
//  3. A claim is complete if it is from the generation before. One that is older may be an old one
//     that a stranger has sent once more, and a claim without a proof may stand in for the true
//     one; so what the last plan gave that member is taken for claimed, too, once (believe).
//
// What a stranger can do is to make the group begin new generations all the time, and to put
// instances out of it, as Kafka asks for no more than READ. Then the work moves, or rests: Unowned
// tells.
//
// All is done by one goroutine (run).
type member struct {
	r        *Replicator
	own      *owner
	group    string
	session  time.Duration
	log      *slog.Logger
	client   *kgo.Client
	clientID string
	heardAs  func(member string, sent time.Time, ttl time.Duration)
	first    bool // has never been a member: a member of the same name is a predecessor

	node       int32  // of the coordinator, -1 = not known
	id         string // as a member; "" = the coordinator has yet to give one
	generation int32
	leader     string  // of this generation
	given      slotSet // in this generation
	key        groupKey
	last       plan      // that this member has made as a leader
	heard      time.Time // when the last request was sent that the coordinator has answered
	alone      bool      // nobody else is in this generation
	load       meter
	joined     time.Time // when this member last began to join
	failing    time.Time // since when nothing has been answered well; zero = all is well
	complained time.Time
	warned     time.Time // of strangers
}

func newMember(r *Replicator, g Group) (*member, error) {
	m := &member{
		r: r, own: r.owner, group: g.name(), session: cmp.Or(g.SessionTimeout, defaultSession), log: r.log,
		clientID: clientPrefix, heardAs: g.Heard, node: -1, generation: -1,
	}
	if g.Instance != nil {
		if name := g.Instance(); name != "" {
			m.clientID, m.first = clientPrefix+name, true
		}
	}
	// A connection that has gone dead must not outlive the session.
	opts := append(kafkaclient.DialTimeout(r.cfg.Destination, m.patience()),
		kgo.ClientID(m.clientID), kgo.RequestTimeoutOverhead(m.patience()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(50*time.Millisecond),
	)
	var err error
	if m.client, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("the client of the group: %w", err)
	}
	r.board.Store(newBoard(r))
	return m, nil
}

func (m *member) close() {
	m.own.close()
	m.client.Close()
	m.r.board.Load().close()
}

// patience is how long the coordinator is given to answer what it need not wait with.
func (m *member) patience() time.Duration { return max(m.session/3, 200*time.Millisecond) }

// interval is how often heartbeats are sent. When an instance has died the others hear of it with
// the first heartbeat after the session time-out, all of them, so this is a part of every
// take-over. A heartbeat is not stored. Ten a second cost the coordinator 0.5 % of a core for each
// instance, and the instance 0.4 %, more than one a second.
func (m *member) interval() time.Duration {
	return min(max(m.session/60, 20*time.Millisecond), 250*time.Millisecond)
}

// settling is how long is waited for more to happen before all members have to join once more.
func (m *member) settling() time.Duration { return max(m.session/6, 20*time.Millisecond) }

// run is a member until ctx ends.
func (m *member) run(ctx context.Context) {
	wait := backoff{low: 20 * time.Millisecond, high: m.settling()}
	for ctx.Err() == nil {
		joined, err := m.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		if joined {
			wait.reset()
		}
		if err == nil || joined && errors.Is(err, kerr.RebalanceInProgress) {
			continue // the others wait for this member
		}
		m.trouble(err)
		if !sleep(ctx, wait.next()) {
			return
		}
	}
}

// trouble takes an error of the group protocol.
func (m *member) trouble(err error) {
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
		// Not a member any more: others may have been given all of it.
		m.own.lose("the group knows this instance no more")
		m.id, m.generation, m.given = "", -1, 0
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.MemberIDRequired):
		// Join again, with what is held. A generation that this member has missed gave it to nobody
		// else, as it was a member then, and had claimed it; if it was not, the coordinator says so
		// when it joins.
	default:
		m.node = -1
	}
	if m.failing.IsZero() {
		m.failing = time.Now()
	}
	advice := ""
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		advice = "; grant klink's principal READ and DESCRIBE on the group: nothing is mirrored by this instance before"
	case errors.Is(err, kerr.InvalidSessionTimeout):
		advice = "; session-timeout must lie between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms: nothing is mirrored by this instance before"
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		advice = "; somebody who is no klink of this version uses the group: nothing is mirrored by this instance before"
	}
	level := slog.LevelDebug // as long as it may be a coordinator that moves, or begins
	if (advice != "" || time.Since(m.failing) > m.session) && time.Since(m.complained) > 10*time.Second {
		level, m.complained = slog.LevelWarn, time.Now()
	}
	m.log.Log(context.Background(), level, "not in the group of klink's instances now, will retry"+advice, "group", m.group, "error", err)
}

// turn joins the group and stays in the generation until it ends. It returns nil to join again at
// once.
func (m *member) turn(ctx context.Context) (joined bool, err error) {
	if m.node < 0 {
		if err := m.findCoordinator(ctx); err != nil {
			return false, err
		}
	}
	key, err := m.r.cfg.Control.GroupKey(ctx)
	if err != nil {
		return false, fmt.Errorf("the key of the group of klink's instances: %w", err)
	}
	m.key = key
	plan, err := m.join(ctx)
	if err != nil {
		return false, err
	}
	if err := m.sync(ctx, plan); err != nil {
		return false, err
	}
	return true, m.stay(ctx)
}

// errStranger: the leader of the group is no instance of klink.
var errStranger = errors.New("the leader of the group is no instance of klink")

// request sends a request to the coordinator, and notes when. An answer with an error in it is no
// success.
func (m *member) request(ctx context.Context, timeout time.Duration, req kmsg.Request, code func(kmsg.Response) int16) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sent := time.Now()
	resp, err := m.client.Broker(int(m.node)).Request(ctx, req)
	if err == nil {
		err = kerr.ErrorForCode(code(resp))
	}
	if err != nil {
		return resp, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	m.heard, m.failing = sent, time.Time{}
	m.own.renew(sent)
	if m.heardAs != nil && m.id != "" {
		m.heardAs(m.id, sent, HeardFor(m.session))
	}
	return resp, nil
}

func (m *member) findCoordinator(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.patience())
	defer cancel()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = m.group, []string{m.group}
	resp, err := req.RequestWith(ctx, m.client)
	if err != nil {
		return fmt.Errorf("FindCoordinator: %w", err)
	}
	node, code := resp.NodeID, resp.ErrorCode
	if len(resp.Coordinators) == 1 {
		node, code = resp.Coordinators[0].NodeID, resp.Coordinators[0].ErrorCode
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return fmt.Errorf("FindCoordinator: %w", err)
	}
	m.node = node
	return nil
}

// join joins the next generation. The plan is this member's if it is the leader, else nil.
func (m *member) join(ctx context.Context) (made *plan, err error) {
	working, leaving := m.own.holding()
	m.joined = time.Now()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = m.group, m.id, groupProtocolType
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(m.session.Milliseconds()), int32(rebalanceTimeout.Milliseconds())
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = groupProtocol, m.key.encodeClaim(m.group, claim{m.id, working | leaving, m.generation, m.load.say()})
	req.Protocols = append(req.Protocols, p)
	joining, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.first && m.id != "" {
		m.first = false
		if dead := m.predecessors(ctx); len(dead) > 0 {
			go m.bury(joining, m.node, dead)
		}
	}
	kresp, err := m.request(joining, rebalanceTimeout+m.patience(), req, func(r kmsg.Response) int16 { return r.(*kmsg.JoinGroupResponse).ErrorCode })
	if errors.Is(err, kerr.MemberIDRequired) {
		m.id = kresp.(*kmsg.JoinGroupResponse).MemberID
		return m.join(ctx)
	}
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.JoinGroupResponse)
	m.id, m.generation, m.leader, m.given = resp.MemberID, resp.Generation, resp.LeaderID, 0
	if m.leader != m.id {
		return nil, nil
	}
	if len(resp.Members) == 0 {
		return nil, errors.New("JoinGroup: the leader was given no members")
	}
	m.last = m.believe(resp).assign()
	return &m.last, nil
}

// believe reads the claims of a generation whose leader this member is.
func (m *member) believe(resp *kmsg.JoinGroupResponse) *plan {
	p := &plan{generation: resp.Generation, held: map[string]slotSet{}}
	for _, other := range resp.Members {
		c, ok := m.key.decodeClaim(m.group, other.MemberID, other.ProtocolMetadata)
		if ok = ok && c.generation < p.generation; !ok {
			c = claim{member: other.MemberID, generation: -1}
			m.stranger("a member of the group is no instance of klink; it is given nothing and put out of the group", other.MemberID)
			p.strangers = append(p.strangers, other.MemberID)
		}
		// What the last plan gave it may be worked on by it now, whatever has become of its claim.
		if m.last.generation == p.generation-1 && (!ok || c.generation < m.last.generation) {
			p.held[c.member] = m.last.given[c.member]
		}
		p.claims = append(p.claims, c)
		if ok {
			p.known = append(p.known, c.member)
		}
	}
	return p
}

// expel puts strangers out of the group. One that stayed could hold up each generation for as long
// as it has said when it joined (its rebalance time-out).
func (m *member) expel(ctx context.Context, node int32, strangers []string) {
	ctx, cancel := context.WithTimeout(ctx, m.patience())
	defer cancel()
	for _, id := range strangers {
		if err := m.remove(ctx, node, id); err != nil && ctx.Err() == nil {
			m.log.Debug("a member that is no instance of klink stays in the group", "member", id, "error", err)
		}
	}
}

// stranger complains about who is no klink.
func (m *member) stranger(what, member string) {
	if time.Since(m.warned) > 10*time.Second {
		m.warned = time.Now()
		m.log.Warn(what+"; let nobody but klink's principal READ the group at the brokers", "group", m.group, "member", fmt.Sprintf("%.100q", member))
	}
}

// sync learns what this member is given.
func (m *member) sync(ctx context.Context, plan *plan) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID = m.group, m.generation, m.id
	kind, protocol := groupProtocolType, groupProtocol
	req.ProtocolType, req.Protocol = &kind, &protocol
	if plan != nil {
		for id, given := range plan.given {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			a.MemberID, a.MemberAssignment = id, m.key.encodeGift(m.group, id, m.generation, given, len(plan.known))
			req.GroupAssignment = append(req.GroupAssignment, a)
		}
	}
	kresp, err := m.request(ctx, m.session, req, func(r kmsg.Response) int16 { return r.(*kmsg.SyncGroupResponse).ErrorCode })
	if errors.Is(err, context.DeadlineExceeded) && m.leader != m.id && ctx.Err() == nil {
		// An instance that leads and has said nothing for a session time-out has no lease any more.
		// A stranger could go on so.
		m.stranger("the leader of the group assigns nothing, and is put out of the group", m.leader)
		return m.depose(ctx)
	}
	if err != nil {
		if plan != nil {
			m.expel(ctx, m.node, plan.strangers) // the coordinator may be unable to store what they have said
		}
		return err
	}
	m.first = false
	given, members, ok := m.key.decodeGift(m.group, m.id, m.generation, kresp.(*kmsg.SyncGroupResponse).MemberAssignment)
	if !ok {
		m.stranger("the leader of the group is no instance of klink; what this instance has it keeps, and the leader is put out of the group", m.leader)
		return m.depose(ctx)
	}
	m.given, m.alone = given, members == 1
	m.r.board.Load().share(!m.alone)
	return nil
}

// depose puts the leader out of the group, so that another member becomes it. The coordinator
// begins a new generation then.
func (m *member) depose(ctx context.Context) error {
	if m.leader == m.id {
		return fmt.Errorf("SyncGroup: %w", errStranger) // somebody has spoken for this member
	}
	ctx, cancel := context.WithTimeout(ctx, m.patience())
	defer cancel()
	if err := m.remove(ctx, m.node, m.leader); err != nil {
		return fmt.Errorf("%w, and could not be put out of it: %w", errStranger, err)
	}
	return fmt.Errorf("SyncGroup: %w", errStranger)
}

// stay works on what is given until the generation ends, or something was let go of that others
// wait for.
func (m *member) stay(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	working, _ := m.own.holding()
	m.own.leave(working &^ m.given)
	m.log.Info("in the group of klink's instances", "group", m.group, "generation", m.generation, "slots", m.given.len(), "of", slots, "alone", m.alone)
	fenced := make(chan error, 1)
	fencing := false
	fence := func() {
		if working, _ := m.own.holding(); !fencing && m.given&^working != 0 {
			fencing = true
			go func() { fenced <- m.r.cfg.Control.Fence(ctx) }()
		}
	}
	fence()
	beat := time.NewTicker(m.interval())
	defer beat.Stop()
	weigh := time.NewTicker(loadInterval)
	defer weigh.Stop()
	var freedAt <-chan time.Time
	if m.leader == m.id {
		// After the generation has begun, so that each one comes to something, however often
		// strangers join.
		if node, strangers := m.node, m.last.strangers; len(strangers) > 0 {
			go m.expel(ctx, node, strangers)
		}
		if m.last.withheld != 0 {
			freedAt = time.After(m.settling()) // nobody else may have a reason to begin another generation
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-fenced:
			fencing = false
			if err != nil {
				m.log.Warn("the state of links and mirrors could not be fenced, will retry", "error", err)
				continue // with the next heartbeat
			}
			working, _ := m.own.holding()
			m.own.gain(m.given&^working, m.heard)
		case <-m.own.freed:
			if _, leaving := m.own.holding(); leaving == 0 {
				return nil
			}
			if freedAt == nil { // one that ends slowly holds up the others for so long
				freedAt = time.After(m.settling())
			}
		case <-freedAt:
			return nil
		case <-weigh.C:
			if m.load.add(m.r.takeCopied(), loadInterval) && !m.alone && time.Since(m.joined) > loadAgain {
				m.log.Info("this instance copies much more, or less, than it has told: the work is shared anew", "group", m.group)
				return nil
			}
		case <-beat.C:
			if err := m.heartbeat(ctx); err != nil {
				return err
			}
			fence()
		}
	}
}

// heartbeat asks whether the generation lasts. The error says that it does not.
func (m *member) heartbeat(ctx context.Context) error {
	if m.node < 0 {
		if err := m.findCoordinator(ctx); err != nil {
			m.trouble(err)
			return nil
		}
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID = m.group, m.generation, m.id
	_, err := m.request(ctx, m.patience(), req, func(r kmsg.Response) int16 { return r.(*kmsg.HeartbeatResponse).ErrorCode })
	for _, ends := range []error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.GroupAuthorizationFailed} {
		if errors.Is(err, ends) {
			return err
		}
	}
	if err != nil && ctx.Err() == nil {
		m.trouble(err) // another coordinator, or none that answers: the generation may last all the same
	}
	return ctx.Err()
}

// leave ends the membership, so that others need not wait for the session to end. It is called when
// nothing is sent any more.
func (m *member) leave() {
	if m.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.patience())
	defer cancel()
	if m.node < 0 && m.findCoordinator(ctx) != nil {
		return
	}
	if err := m.remove(ctx, m.node, m.id); err != nil {
		m.log.Warn("the group was not left; others wait for the session time-out", "group", m.group, "error", err)
	}
}

// remove takes a member out of the group.
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

// predecessors are the members of the group that have this instance's name: itself, before it was
// killed. It is not alive any more: its name is this process's now, by the settings or by the
// address on which it listens.
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
	ctx, cancel := context.WithTimeout(ctx, m.patience())
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

// bury takes dead predecessors out of the group once this member's own request to join has come in.
// Before that the group could become empty, and an empty one waits for
// group.initial.rebalance.delay.ms when somebody joins.
func (m *member) bury(ctx context.Context, node int32, dead []string) {
	for state := ""; state != "PreparingRebalance"; {
		if !sleep(ctx, 10*time.Millisecond) {
			return
		}
		state, _ = m.describe(ctx, node)
	}
	for _, id := range dead {
		if err := m.remove(ctx, node, id); err != nil && ctx.Err() == nil {
			m.log.Debug("a dead member of the group stays until its session ends", "member", id, "error", err)
		}
	}
}
