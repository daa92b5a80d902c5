package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// aclTask keeps ACLs at the destination as they are at the source, as far as acl.filters match
// them. It deletes only ACLs that klink has created.
//
// What it has created stands in the state topic (record_acls.go). Between the clusters and the
// state topic there is no transaction, so the order counts:
//  1. What the destination lacks is remembered, and created then. If klink dies in between, the
//     next run finds the ACL remembered and lacking, and creates it, or finds the source without
//     it, deletes it, and forgets it.
//  2. What the source lacks is deleted, and forgotten then. If klink dies in between, the next run
//     deletes it again.
//  3. An ACL whose creation the destination has refused for certain is forgotten at once: somebody
//     may create it by hand.
//  4. An ACL that was created is remembered afterwards, as one that was (aclEntry.made), whatever
//     others have done meanwhile.
//
// The task runs at one instance, and a person may have a link synced at any other (SyncACLs). So a
// run decides only on the memory that it has seen before it looked at the destination, else it
// looks again, at both clusters; it forgets what it has deleted only if that is remembered as when
// it decided so; and by 4. one that had an older look at the source, and so forgets what another
// run is about to create, does no harm.
//
// A person can create an ACL in the moment between klink's look at the destination and its own
// creation; nobody can tell whose it is then, and klink takes it for its own.
var aclTask = &task{
	name: "AclSync", interval: ConfigACLSyncMs, run: runACLTask,
	configured: func(l *Link) bool { return wantsACLs(l.Configs) },
}

// wantsACLs says whether a link syncs any ACLs. What is remembered of a link that does not is
// forgotten.
func wantsACLs(configs map[string]string) bool {
	return LinkConfigValue(configs, ConfigACLSync) == "true" && hasACLFilters(configs)
}

// hasACLFilters says whether acl.filters has any. It is asked all the time, so it does not read the
// JSON: an empty list has no more than one object.
func hasACLFilters(configs map[string]string) bool {
	return strings.Count(LinkConfigValue(configs, ConfigACLFilters), "{") > 1
}

// aclMemory is what the task keeps of its last run.
type aclMemory struct {
	// missing are remembered ACLs that the source did not have. Only what it does not have in two
	// runs is deleted: a broker that has just started, or that is cut off from its controller, may
	// tell of ACLs that are not up to date.
	missing aclSet
	// refused are ACLs that the destination refused to create for certain, and why. They are not
	// tried again before retry, as every try is written to the state topic.
	refused aclResults
	retry   time.Time
}

// aclRetry is how long an ACL that was refused for certain is left alone.
const aclRetry = time.Minute

func runACLTask(ctx context.Context, s *Service, r *taskRun) []TaskError {
	memory, ok := r.memory.(*aclMemory)
	if !ok {
		memory = &aclMemory{missing: aclSet{}}
		r.memory = memory
	}
	run := &aclRun{s: s, link: r.link, source: r.source, before: memory.missing}
	if time.Now().Before(memory.retry) {
		run.refused = memory.refused
	}
	if err := run.look(ctx); err != nil {
		return []TaskError{taskError(err)}
	}
	err := run.sync(ctx)
	if run.missing != nil {
		memory.missing = run.missing
	}
	if refused := run.refusedNow(); len(refused) > 0 {
		memory.refused, memory.retry = refused, time.Now().Add(aclRetry)
	}
	if err != nil {
		return []TaskError{taskError(err)}
	}
	return run.errors()
}

// aclRun is one run of the ACL sync.
type aclRun struct {
	s      *Service
	link   *Link
	source *source
	// before are the ACLs that may be deleted or forgotten; nil = all.
	before aclSet
	// refused are the ACLs that are not to be created now, and why.
	refused aclResults

	wanted      aclSet                  // what the source has
	leftOut     map[aclBinding]string   // what it has, and is not copied, and why
	destination aclSet                  // what the destination has
	noted       map[aclBinding]aclEntry // remembered when the destination was looked at
	remembered  map[aclBinding]aclEntry // when the plan was made
	plan        aclPlan
	held        []aclBinding // would be in plan.adds, but are refused
	missing     aclSet       // remembered, but not at the source
	wasOurs     aclSet       // of plan.adds: remembered before
	results     aclResults
}

// look asks the source.
func (r *aclRun) look(ctx context.Context) error {
	filters, err := parseACLFilters(LinkConfigValue(r.link.Configs, ConfigACLFilters))
	if err != nil {
		return protocol.Errorf(kerr.InvalidConfig, "%s: %s", ConfigACLFilters, err)
	}
	found, err := r.source.acls(ctx, filters)
	if err != nil {
		return err
	}
	r.wanted, r.leftOut = aclGuard{r.s.cfg.OwnPrincipals}.split(found, filters)
	return nil
}

// sync makes the destination what it should be. Runs of one klink follow one another, so that no
// link deletes an ACL that another one is just about to take for granted.
func (r *aclRun) sync(ctx context.Context) error {
	unlock, err := r.s.lockACLs(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	run := newID()[:8]
	for attempt := 1; ; attempt++ {
		if err := r.propose(ctx); err != nil || r.plan.idle() {
			return err
		}
		if len(r.plan.adds)+len(r.plan.deletes) > 0 {
			may, err := mayAlterCluster(ctx, r.s.client)
			if err != nil {
				return fmt.Errorf("ask the destination what klink may do: %w", err)
			}
			if !may {
				return mayNotAlterACLs()
			}
		}
		err := r.decide(ctx, run)
		if err == nil {
			break
		}
		if !errors.Is(err, errACLsMoved) || attempt == maxACLAttempts {
			return err
		}
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	r.apply(ctx)
	return r.settle(ctx, run)
}

// maxACLAttempts is how often a run begins anew because another instance has synced the same link.
const maxACLAttempts = 5

// errACLsMoved: what is remembered is not what it was when the destination was looked at.
var errACLsMoved = protocol.Errorf(kerr.InvalidRequest, "another instance of klink syncs the ACLs of the link at the same time: try again")

// propose makes the plan from what is known here, without changing anything.
func (r *aclRun) propose(ctx context.Context) (err error) {
	if err := r.s.store.Read(r.note); err != nil {
		return err
	}
	r.destination, err = describeACLs(ctx, r.s.client, anyACL)
	switch {
	case errors.Is(err, kerr.SecurityDisabled):
		return protocol.Errorf(kerr.SecurityDisabled, "the destination has no authorizer, so it keeps no ACLs: configure authorizer.class.name at its brokers, or set acl.sync.enable to false")
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return mayNotAlterACLs()
	case err != nil:
		return fmt.Errorf("describe the ACLs of the destination: %w", err)
	}
	return r.s.store.Read(func(tx *Tx) error { return r.makePlan(tx) })
}

// note takes down what is remembered, before the destination is looked at.
func (r *aclRun) note(tx *Tx) error {
	own, err := tx.ACLs(r.link.Name, r.link.ID)
	r.noted = own
	return err
}

func mayNotAlterACLs() *protocol.Error {
	return protocol.Errorf(kerr.ClusterAuthorizationFailed, "klink's principal may not alter the ACLs of the destination: grant it ALTER on the cluster there")
}

func (r *aclRun) makePlan(tx *Tx) error {
	own, err := tx.ACLs(r.link.Name, r.link.ID)
	if err != nil {
		return err
	}
	others, err := tx.OtherACLs(r.link.Name)
	if err != nil {
		return err
	}
	r.remembered = own
	r.plan = planACLs(r.wanted, r.destination, own, others)
	r.missing = r.plan.missing()
	if r.before != nil {
		r.plan.onlyIfMissing(r.before)
	}
	r.held = nil
	r.plan.adds = slices.DeleteFunc(r.plan.adds, func(a aclBinding) bool {
		held := r.refused[a] != nil
		if held {
			r.held = append(r.held, a)
		}
		return held
	})
	return nil
}

// errLinkChanged ends a run of a link that was deleted or does not sync ACLs any more.
var errLinkChanged = protocol.Errorf(kerr.InvalidRequest, "the link was deleted, or its ACL sync switched off, at the same time")

// decide makes the plan once more, on what is stored now, and stores what must be remembered before
// it is carried out.
func (r *aclRun) decide(ctx context.Context, run string) error {
	return r.s.update(ctx, func(tx *Tx) error {
		now, err := tx.Link(r.link.Name)
		switch {
		case err != nil:
			return err
		case now == nil || now.ID != r.link.ID || !wantsACLs(now.Configs):
			return errLinkChanged
		}
		if err := r.makePlan(tx); err != nil {
			return err
		}
		if !maps.EqualFunc(r.remembered, r.noted, func(a, b aclEntry) bool { return a.mark() == b.mark() }) {
			return errACLsMoved
		}
		next := maps.Clone(r.remembered)
		r.wasOurs = aclSet{}
		for _, a := range r.plan.adds {
			if _, ours := next[a]; ours {
				r.wasOurs.add(a)
			}
			next[a] = aclEntry{aclBinding: a, run: run}
		}
		for _, a := range r.plan.joins {
			next[a] = aclEntry{aclBinding: a, run: run, made: true}
		}
		for _, a := range r.plan.leaves {
			delete(next, a)
		}
		return tx.PutACLs(r.link.Name, r.link.ID, next)
	})
}

// apply carries out the plan at the destination.
func (r *aclRun) apply(ctx context.Context) {
	r.results = createACLs(ctx, r.s.client, r.plan.adds)
	maps.Copy(r.results, deleteACLs(ctx, r.s.client, r.plan.deletes))
}

// settle forgets what has been deleted, and what certainly was not created, and remembers what was.
func (r *aclRun) settle(ctx context.Context, run string) error {
	forget := map[aclBinding]aclMark{} // and as what it must be remembered
	var made []aclBinding
	for _, a := range r.plan.deletes {
		if r.results[a] == nil {
			forget[a] = r.remembered[a].mark()
		}
	}
	for _, a := range r.plan.adds {
		switch err := r.results[a]; {
		case err == nil:
			made = append(made, a)
		case !r.wasOurs.has(a) && refusedForCertain(err):
			forget[a] = aclMark{run: run}
		}
	}
	r.report()
	if len(forget)+len(made) == 0 {
		return nil
	}
	return r.s.update(ctx, func(tx *Tx) error {
		if now, err := tx.Link(r.link.Name); err != nil || now == nil || now.ID != r.link.ID || !wantsACLs(now.Configs) {
			return err // its ACLs have been forgotten with that
		}
		own, err := tx.ACLs(r.link.Name, r.link.ID)
		if err != nil {
			return err
		}
		maps.DeleteFunc(own, func(a aclBinding, e aclEntry) bool {
			mark, ok := forget[a]
			return ok && mark == e.mark()
		})
		for _, a := range made {
			own[a] = aclEntry{aclBinding: a, run: run, made: true}
		}
		return tx.PutACLs(r.link.Name, r.link.ID, own)
	})
}

// report logs what was done.
func (r *aclRun) report() {
	done := func(acls []aclBinding) (n int) {
		for _, a := range acls {
			if r.results[a] == nil {
				n++
			}
		}
		return n
	}
	if created, deleted := done(r.plan.adds), done(r.plan.deletes); created+deleted > 0 {
		r.s.log.Info("ACLs follow the source", "link", r.link.Name, "created", created, "deleted", deleted)
	}
}

// refusedForCertain says of the result of a creation that the ACL was not created, and is not going
// to be. After a lost connection, or an error of the kind that passes, nobody knows.
func refusedForCertain(err error) bool {
	var code *kerr.Error
	return errors.As(err, &code) && !code.Retriable && code != kerr.UnknownServerError
}

// refusedNow are the ACLs that this run has found to be refused for certain, with those that it did
// not try.
func (r *aclRun) refusedNow() aclResults {
	refused := aclResults{}
	for _, a := range r.plan.adds {
		if err := r.results[a]; refusedForCertain(err) {
			refused[a] = err
		}
	}
	if len(refused) > 0 {
		for _, a := range r.held {
			refused[a] = r.refused[a]
		}
	}
	return refused
}

// errors are the errors of the run: one for each reason, as one reason often concerns many ACLs.
func (r *aclRun) errors() []TaskError {
	type reason struct {
		first TaskError
		more  int
	}
	var reasons []*reason
	known := map[string]*reason{}
	note := func(what string, acls []aclBinding, results aclResults) {
		for _, a := range acls {
			err := results[a]
			if err == nil {
				continue
			}
			if same := known[what+err.Error()]; same != nil {
				same.more++
				continue
			}
			n := &reason{first: taskError(aclError(what, a, err))}
			known[what+err.Error()] = n
			reasons = append(reasons, n)
		}
	}
	note("create", r.held, r.refused)
	note("create", r.plan.adds, r.results)
	note("delete", r.plan.deletes, r.results)
	var errs []TaskError
	for _, n := range reasons {
		if n.more > 0 {
			n.first.Message += fmt.Sprintf(" (and %d more ACLs, for the same reason)", n.more)
		}
		errs = append(errs, n.first)
	}
	return append(errs, leftOutNotes(r.leftOut)...)
}

// aclError says why an ACL could not be created or deleted.
func aclError(what string, a aclBinding, err error) *protocol.Error {
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return mayNotAlterACLs()
	}
	e := asError(err)
	return protocol.Errorf(e.Code, "%s the ACL %s at the destination: %s", what, a, e.Message)
}

// maxACLRequests is how many filters are asked for one by one.
const maxACLRequests = 20

// acls asks the source for the ACLs that any of the filters match.
func (s *source) acls(ctx context.Context, filters []aclFilter) (aclSet, error) {
	requests := filters
	if len(requests) > maxACLRequests {
		requests = []aclFilter{anyACL}
	}
	all := aclSet{}
	for _, f := range requests {
		found, err := describeACLs(ctx, s.client, f)
		switch {
		case errors.Is(err, kerr.SecurityDisabled):
			return nil, protocol.Errorf(kerr.SecurityDisabled, "the source %s of link %q has no authorizer, so it has no ACLs: configure authorizer.class.name at its brokers, or set acl.sync.enable to false", s.address, s.link)
		case errors.Is(err, kerr.ClusterAuthorizationFailed):
			return nil, protocol.Errorf(kerr.ClusterAuthorizationFailed, "the user of link %q may not describe the ACLs of the source %s: grant it DESCRIBE on the cluster there", s.link, s.address)
		case err != nil:
			return nil, s.failed("describe its ACLs", err)
		}
		for a := range found {
			if slices.ContainsFunc(filters, func(f aclFilter) bool { return f.matches(a) }) {
				all.add(a)
			}
		}
	}
	return all, nil
}

// lockACLs waits for the runs of other links to end.
func (s *Service) lockACLs(ctx context.Context) (unlock func(), err error) {
	select {
	case s.aclLock <- struct{}{}:
		return func() { <-s.aclLock }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the ACL sync of another link: %w", ctx.Err())
	}
}
