package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Group configures how several instances share the work of one destination: they are the members of
// a consumer group there.
type Group struct {
	// ID is the name of the group; default TasksTopic.
	ID string
	// SessionTimeout is the session time-out of the group: an instance that sends no heartbeat for
	// so long is replaced. Default 6 s.
	SessionTimeout time.Duration
	// Instance returns the name of this instance, for people, and so that an instance that was
	// killed and started again finds its predecessor in the group and need not wait for the session
	// time-out. No two live instances may have the same name. "" = none. Run calls it when it
	// begins.
	Instance func() string
	// Tasks returns the tasks of a link that this instance owns. They are published to the other
	// instances. May be nil.
	Tasks func(link string) []model.TaskStatus
	// Drift returns the config drift of a mirror whose link this instance owns. It is published to
	// the other instances. May be nil.
	Drift func(topic string) []model.ConfigDrift
	// Heard is called when the coordinator has answered a request that this instance sent at the
	// time sent. The coordinator counts the member for at least ttl after sent, however clocks run.
	// Heard must not block. May be nil.
	Heard func(member string, sent time.Time, ttl time.Duration)
	// Changed is called when this instance owns other slots than before (OwnsTopic, OwnsLink). It
	// must not block. May be nil.
	Changed func()
}

// name returns the group's id.
func (g *Group) name() string { return cmp.Or(g.ID, group.TasksTopic) }

const (
	defaultSession = 6 * time.Second
	// rebalanceTimeout is how long the coordinator waits for members to join a new generation.
	rebalanceTimeout = 30 * time.Second
	// clientPrefix begins the client ids of members; the rest is the name of the instance.
	clientPrefix = "klink/"
)

// HeardFor returns the ttl of Group.Heard: half of the session time-out. An instance that waits for
// one that left the group waits for that time once more.
func HeardFor(session time.Duration) time.Duration { return session / 2 }

// ClientID returns the client id that an instance uses in the group.
func ClientID(instance string) string { return clientPrefix + instance }

// member is the membership of this instance in the group. It speaks the group protocol itself,
// rather than through a group consumer, because the lease needs to know which requests the
// coordinator has answered, and when they were sent.
//
// The protocol is cooperative: a member goes on working while a new generation of the group forms.
// When it joins, it claims the slots that it holds. The leader (assign) gives none of these to
// another member. A member that has to give slots away stops working on them, lets go of them, and
// joins again.
//
// Everyone with READ on the group at the brokers may join it, become its leader, and speak for
// another member whose id it has seen. Invariants, whatever such a stranger does:
//  1. Only an instance of klink is given slots, and only its claims count: a claim carries a proof
//     (groupKey).
//  2. Only the assignment of a leader that is an instance of klink counts. If the leader is a
//     stranger, members gain nothing and go on with what they hold, which cannot have been given to
//     anybody else. They remove the leader from the group.
//  3. A claim is complete if it is from the previous generation. An older claim may be one that a
//     stranger replays, and a claim without a proof may replace the true one. In both cases the
//     leader assumes, once, that the member also claims what the last plan gave it (believe).
//
// Kafka asks for no more than READ, so a stranger can make the group begin new generations all the
// time, and can remove instances from it. Then the work moves, or rests: Unowned reports it.
//
// Only one goroutine (run) changes the fields.
type member struct {
	r        *Replicator
	own      *owner
	group    string
	session  time.Duration
	log      *slog.Logger
	client   *kgo.Client
	clientID string
	heardAs  func(member string, sent time.Time, ttl time.Duration)
	first    bool // this instance has never been a member: one of the same name is a predecessor

	node       int32  // node id of the coordinator, -1 = not known
	id         string // member id; "" = the coordinator has yet to give one
	generation int32
	leader     string        // member id of the leader of this generation
	given      group.SlotSet // slots given in this generation
	key        group.Key
	last       group.Plan // the last one that this member made as leader
	heard      time.Time  // when this instance sent the last request that the coordinator answered
	alone      bool       // no other instance is in this generation
	load       group.Meter
	joined     time.Time // when this member last began to join
	failing    time.Time // since when requests have failed; zero = the last one succeeded
	complained time.Time
	warned     time.Time // when it last warned of strangers
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
	opts := append(kafkaclient.DialTimeout(r.cfg.Destination, m.answerTimeout()),
		kgo.ClientID(m.clientID), kgo.RequestTimeoutOverhead(m.answerTimeout()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(50*time.Millisecond),
	)
	var err error
	if m.client, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("could not create the client for the group: %w", err)
	}
	r.board.Store(newBoard(r))
	return m, nil
}

func (m *member) close() {
	m.own.close()
	m.client.Close()
	m.r.board.Load().close()
}

// answerTimeout returns how long the coordinator may take to answer a request that it does not
// hold back on purpose.
func (m *member) answerTimeout() time.Duration { return max(m.session/3, 200*time.Millisecond) }

// interval returns the time between heartbeats. When an instance has died, each other one learns it
// from its first heartbeat after the session time-out, so the interval is a part of every
// take-over. A heartbeat is not stored. Ten a second, rather than one, cost the coordinator 0.5 %
// of a core for each instance, and the instance 0.4 %.
func (m *member) interval() time.Duration {
	return min(max(m.session/60, 20*time.Millisecond), 250*time.Millisecond)
}

// settling returns how long this member waits for further changes before it makes all members join
// again.
func (m *member) settling() time.Duration { return max(m.session/6, 20*time.Millisecond) }

// run keeps this instance in the group until ctx ends.
func (m *member) run(ctx context.Context) {
	wait := retry.Backoff{Low: 20 * time.Millisecond, High: m.settling()}
	for ctx.Err() == nil {
		joined, err := m.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		if joined {
			wait.Reset()
		}
		if err == nil || joined && errors.Is(err, kerr.RebalanceInProgress) {
			continue // the others wait for this member
		}
		m.trouble(err)
		if retry.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}

// trouble handles an error of the group protocol.
func (m *member) trouble(err error) {
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID):
		// Not a member any more: the leader may have given all of it to others.
		m.own.lose("the group no longer knows this instance")
		m.id, m.generation, m.given = "", -1, 0
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.MemberIDRequired):
		// Join again and claim what this member holds. If it missed a generation, its leader gave
		// none of that to another member, because this one was a member and had claimed it. If it
		// was not a member, the coordinator says so when it joins.
	default:
		m.node = -1
	}
	if m.failing.IsZero() {
		m.failing = time.Now()
	}
	advice := ""
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		advice = "; grant klink's principal READ and DESCRIBE on the group: until then this instance mirrors nothing"
	case errors.Is(err, kerr.InvalidSessionTimeout):
		advice = "; session-timeout must be between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms: until then this instance mirrors nothing"
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		advice = "; something other than this version of klink uses the group: until it stops this instance mirrors nothing"
	}
	level := slog.LevelDebug // the coordinator may only be moving, or starting
	if (advice != "" || time.Since(m.failing) > m.session) && time.Since(m.complained) > 10*time.Second {
		level, m.complained = slog.LevelWarn, time.Now()
	}
	m.log.Log(context.Background(), level, "this instance is not in the group of klink's instances, will retry"+advice, "group", m.group, "error", err)
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
		return false, fmt.Errorf("could not get the key of the group of klink's instances: %w", err)
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

// request sends a request to the coordinator. If it succeeds, request renews the lease as of the
// time of sending. An answer with an error code is no success.
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
	ctx, cancel := context.WithTimeout(ctx, m.answerTimeout())
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

// join joins the next generation. It returns the plan that this member made if it is the leader,
// else nil.
func (m *member) join(ctx context.Context) (made *group.Plan, err error) {
	working, leaving := m.own.holding()
	m.joined = time.Now()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = m.group, m.id, group.ProtocolType
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(m.session.Milliseconds()), int32(rebalanceTimeout.Milliseconds())
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = group.Protocol, m.key.EncodeClaim(m.group, group.Claim{Member: m.id, Owned: working | leaving, Generation: m.generation, Load: m.load.Say()})
	req.Protocols = append(req.Protocols, p)
	joining, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.first && m.id != "" {
		m.first = false
		if dead := m.predecessors(ctx); len(dead) > 0 {
			node := m.node
			m.r.spawn(func(context.Context) { m.bury(joining, node, dead) })
		}
	}
	kresp, err := m.request(joining, rebalanceTimeout+m.answerTimeout(), req, func(r kmsg.Response) int16 { return r.(*kmsg.JoinGroupResponse).ErrorCode })
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
	m.last = m.believe(resp).Assign()
	return &m.last, nil
}

// believe reads the claims of a generation that this member leads.
func (m *member) believe(resp *kmsg.JoinGroupResponse) *group.Plan {
	p := &group.Plan{Generation: resp.Generation, Held: map[string]group.SlotSet{}}
	for _, other := range resp.Members {
		c, ok := m.key.DecodeClaim(m.group, other.MemberID, other.ProtocolMetadata)
		if ok = ok && c.Generation < p.Generation; !ok {
			c = group.Claim{Member: other.MemberID, Generation: -1}
			m.stranger("a member of the group is not an instance of klink; klink assigns nothing to it and removes it from the group", other.MemberID)
			p.Strangers = append(p.Strangers, other.MemberID)
		}
		// The other member may be working on what the last plan gave it, whatever its claim says
		// now.
		if m.last.Generation == p.Generation-1 && (!ok || c.Generation < m.last.Generation) {
			p.Held[c.Member] = m.last.Given[c.Member]
		}
		p.Claims = append(p.Claims, c)
		if ok {
			p.Known = append(p.Known, c.Member)
		}
	}
	return p
}

// sync sends the plan, if this member is the leader, and learns which slots this member is given.
func (m *member) sync(ctx context.Context, plan *group.Plan) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID = m.group, m.generation, m.id
	kind, protocol := group.ProtocolType, group.Protocol
	req.ProtocolType, req.Protocol = &kind, &protocol
	if plan != nil {
		for id, given := range plan.Given {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			a.MemberID, a.MemberAssignment = id, m.key.EncodeGift(m.group, id, m.generation, given, len(plan.Known))
			req.GroupAssignment = append(req.GroupAssignment, a)
		}
	}
	kresp, err := m.request(ctx, m.session, req, func(r kmsg.Response) int16 { return r.(*kmsg.SyncGroupResponse).ErrorCode })
	if errors.Is(err, context.DeadlineExceeded) && m.leader != m.id && ctx.Err() == nil {
		// An instance that is the leader and has assigned nothing for a session time-out has lost
		// its lease. A stranger could go on like this for ever.
		m.stranger("the leader of the group assigns nothing; klink removes it from the group", m.leader)
		return m.depose(ctx)
	}
	if err != nil {
		if plan != nil {
			m.expel(ctx, m.node, plan.Strangers) // strangers' metadata may be too large
		}
		return err
	}
	m.first = false
	given, members, ok := m.key.DecodeGift(m.group, m.id, m.generation, kresp.(*kmsg.SyncGroupResponse).MemberAssignment)
	if !ok {
		m.stranger("the leader of the group is not an instance of klink; this instance keeps its slots and removes the leader from the group", m.leader)
		return m.depose(ctx)
	}
	m.given, m.alone = given, members == 1
	m.r.board.Load().share(!m.alone)
	return nil
}

// stay works on the given slots until the generation ends, or until this member has let go of slots
// that others wait for.
func (m *member) stay(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	working, _ := m.own.holding()
	m.own.leave(working &^ m.given)
	m.log.Info("joined the group of klink's instances", "group", m.group, "generation", m.generation, "slots", m.given.Len(), "of", group.Slots, "alone", m.alone)
	fenced := make(chan error, 1)
	fencing := false
	fence := func() {
		if working, _ := m.own.holding(); !fencing && m.given&^working != 0 {
			fencing = true
			m.r.spawn(func(context.Context) { fenced <- m.r.cfg.Control.Fence(ctx) })
		}
	}
	fence()
	beat := time.NewTicker(m.interval())
	defer beat.Stop()
	weigh := time.NewTicker(group.LoadInterval)
	defer weigh.Stop()
	var freedAt <-chan time.Time
	if m.leader == m.id {
		// Expel strangers only after the generation has begun, so that the members get some work
		// done in each generation, however often strangers join.
		if node, strangers := m.node, m.last.Strangers; len(strangers) > 0 {
			m.r.spawn(func(context.Context) { m.expel(ctx, node, strangers) })
		}
		if m.last.Withheld != 0 {
			freedAt = time.After(m.settling()) // maybe no other member begins a generation
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-fenced:
			fencing = false
			if err != nil {
				m.log.Warn("could not fence the state of links and mirrors, will retry", "error", err)
				continue // with the next heartbeat
			}
			working, _ := m.own.holding()
			m.own.gain(m.given&^working, m.heard)
		case <-m.own.freed:
			if _, leaving := m.own.holding(); leaving == 0 {
				return nil
			}
			if freedAt == nil { // others do not wait longer than this for a slot that ends slowly
				freedAt = time.After(m.settling())
			}
		case <-freedAt:
			return nil
		case <-weigh.C:
			if m.load.Add(m.r.takeCopied(), group.LoadInterval) && !m.alone && time.Since(m.joined) > group.LoadAgain {
				m.log.Info("the load of this instance has changed a lot: klink redistributes the work", "group", m.group)
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

// heartbeat asks the coordinator whether the generation lasts. It returns an error if it does not.
func (m *member) heartbeat(ctx context.Context) error {
	if m.node < 0 {
		if err := m.findCoordinator(ctx); err != nil {
			m.trouble(err)
			return nil
		}
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID = m.group, m.generation, m.id
	_, err := m.request(ctx, m.answerTimeout(), req, func(r kmsg.Response) int16 { return r.(*kmsg.HeartbeatResponse).ErrorCode })
	for _, ends := range []error{kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.GroupAuthorizationFailed} {
		if errors.Is(err, ends) {
			return err
		}
	}
	if err != nil && ctx.Err() == nil {
		m.trouble(err) // the coordinator has moved or is down: the generation may last all the same
	}
	return ctx.Err()
}

// leave ends the membership, so that others need not wait for the session time-out. It is called
// when this instance no longer sends anything.
func (m *member) leave() {
	if m.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.answerTimeout())
	defer cancel()
	if m.node < 0 && m.findCoordinator(ctx) != nil {
		return
	}
	if err := m.remove(ctx, m.node, m.id); err != nil {
		m.log.Warn("could not leave the group; other instances wait for the session time-out", "group", m.group, "error", err)
	}
}
