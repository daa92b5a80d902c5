package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"klink/admin/aclsync"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// aclTask copies to the destination the source's ACLs that match acl.filters. It deletes only ACLs
// that klink has created.
//
// The state topic records the ACLs that klink created (admin/store/record_acls.go). No transaction
// spans the clusters and the state topic, so the order counts:
//  1. klink records a missing ACL before it creates it. If klink dies in between, the next run
//     finds the ACL recorded but missing. It creates the ACL; or, if the source no longer has it,
//     deletes it and then its record.
//  2. klink deletes an ACL that the source no longer has before it drops the record. If klink dies
//     in between, the next run deletes the ACL again.
//  3. klink drops the record at once if the destination definitely refused to create the ACL:
//     somebody may create it by hand.
//  4. klink records a successful creation afterwards (store.ACLEntry.Made), whatever other runs
//     have done to the record since.
//
// The task runs at one instance, but a person can sync the link at any other (SyncACLs), so runs
// can overlap. Therefore a run
//   - reads its records before it lists the destination's ACLs, and starts over at both clusters if
//     the records have changed since;
//   - drops the record of a deleted ACL only if the record has not changed since the run planned
//     the deletion.
//
// Rule 4 covers the remaining case: a run with an older list of the source's ACLs drops the record
// of an ACL that another run is about to create.
//
// A person may create an ACL between klink's listing of the destination and klink's own creation.
// Nobody can tell then whose it is, and klink treats it as its own.
var aclTask = &task{
	name: "AclSync", interval: linkconfig.ConfigACLSyncMs, run: runACLTask,
	configured: func(l *model.Link) bool { return wantsACLs(l.Configs) },
}

// wantsACLs reports whether a link syncs any ACLs. The ACL records of a link that does not are
// dropped.
func wantsACLs(configs map[string]string) bool {
	return linkconfig.Value(configs, linkconfig.ConfigACLSync) == "true" && hasACLFilters(configs)
}

// hasACLFilters reports whether acl.filters has any filter.
func hasACLFilters(configs map[string]string) bool {
	return aclsync.AnyFilter(linkconfig.Value(configs, linkconfig.ConfigACLFilters))
}

// aclMemory is what the task keeps from its last run.
type aclMemory struct {
	// missing are the recorded ACLs that the source lacked in the last run. A run deletes only ACLs
	// that were missing in the run before, too: a broker that has just started, or is cut off from
	// its controller, may return outdated ACLs.
	missing aclsync.Set
	// refused are the ACLs that the destination definitely refused to create, and why. The task
	// does not try them again before retry, because every attempt writes to the state topic.
	refused aclsync.Results
	retry   time.Time
}

// aclRetry is how long the task waits before it tries a definitely refused ACL again.
const aclRetry = time.Minute

func runACLTask(ctx context.Context, s *Service, r *taskRun) []model.TaskError {
	memory, ok := r.memory.(*aclMemory)
	if !ok {
		memory = &aclMemory{missing: aclsync.Set{}}
		r.memory = memory
	}
	run := &aclRun{s: s, link: r.link, source: r.source, before: memory.missing}
	if time.Now().Before(memory.retry) {
		run.refused = memory.refused
	}
	if err := run.look(ctx); err != nil {
		return []model.TaskError{taskError(err)}
	}
	err := run.sync(ctx)
	if run.missing != nil {
		memory.missing = run.missing
	}
	if refused := run.refusedNow(); len(refused) > 0 {
		memory.refused, memory.retry = refused, time.Now().Add(aclRetry)
	}
	if err != nil {
		return []model.TaskError{taskError(err)}
	}
	return run.errors()
}

// aclRun is one run of the ACL sync.
type aclRun struct {
	s      *Service
	link   *model.Link
	source *sources.Source
	// before are the ACLs that this run may delete or forget; nil = all.
	before aclsync.Set
	// refused are the ACLs that this run must not try to create, and why.
	refused aclsync.Results

	wanted      aclsync.Set                        // what the source has
	leftOut     map[aclsync.Binding]string         // source ACLs that are not copied, and why
	destination aclsync.Set                        // what the destination has
	noted       map[aclsync.Binding]store.ACLEntry // the link's records before the destination was listed
	remembered  map[aclsync.Binding]store.ACLEntry // the link's records when the plan was made
	plan        aclsync.Plan
	held        []aclsync.Binding // left out of plan.adds because they are in refused
	missing     aclsync.Set       // recorded, but not at the source
	wasOurs     aclsync.Set       // those of plan.adds that were already recorded
	results     aclsync.Results
}

// look reads the filters and lists the source's ACLs.
func (r *aclRun) look(ctx context.Context) error {
	filters, err := aclsync.ParseFilters(linkconfig.Value(r.link.Configs, linkconfig.ConfigACLFilters))
	if err != nil {
		return protocol.Errorf(kerr.InvalidConfig, "%s: %s", linkconfig.ConfigACLFilters, err)
	}
	found, err := r.source.ACLs(ctx, filters)
	if err != nil {
		return err
	}
	r.wanted, r.leftOut = aclsync.Guard{Own: r.s.cfg.OwnPrincipals}.Split(found, filters)
	return nil
}

// sync brings the destination into line. Within one instance the runs of all links take turns, so
// that no link deletes an ACL that another one is about to rely on.
func (r *aclRun) sync(ctx context.Context) error {
	unlock, err := r.s.lockACLs(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	run := store.NewID()[:8]
	for attempt := 1; ; attempt++ {
		if err := r.propose(ctx); err != nil || r.plan.Idle() {
			return err
		}
		if len(r.plan.Adds)+len(r.plan.Deletes) > 0 {
			may, err := aclsync.MayAlterCluster(ctx, r.s.client)
			if err != nil {
				return fmt.Errorf("could not check klink's permissions at the destination: %w", err)
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

// maxACLAttempts bounds the attempts of a run that starts over because another instance syncs the
// same link.
const maxACLAttempts = 5

// errACLsMoved: the link's records have changed since the destination was listed.
var errACLsMoved = protocol.Errorf(kerr.InvalidRequest, "another instance of klink is syncing the ACLs of the link: try again")

// propose lists the destination's ACLs and makes the plan. It changes nothing.
func (r *aclRun) propose(ctx context.Context) (err error) {
	if err := r.s.store.Read(r.note); err != nil {
		return err
	}
	r.destination, err = aclsync.Describe(ctx, r.s.client, aclsync.Any)
	switch {
	case errors.Is(err, kerr.SecurityDisabled):
		return protocol.Errorf(kerr.SecurityDisabled, "the destination has no authorizer, so it has no ACLs: configure authorizer.class.name at its brokers, or set acl.sync.enable to false")
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return mayNotAlterACLs()
	case err != nil:
		return fmt.Errorf("could not describe the ACLs of the destination: %w", err)
	}
	return r.s.store.Read(func(tx *store.Tx) error { return r.makePlan(tx) })
}

// note keeps the link's records as they are before the destination is listed.
func (r *aclRun) note(tx *store.Tx) error {
	own, err := tx.ACLs(r.link.Name, r.link.ID)
	r.noted = own
	return err
}

func mayNotAlterACLs() *protocol.Error {
	return protocol.Errorf(kerr.ClusterAuthorizationFailed, "klink's principal may not alter the ACLs of the destination: grant it ALTER on the cluster there")
}

func (r *aclRun) makePlan(tx *store.Tx) error {
	own, err := tx.ACLs(r.link.Name, r.link.ID)
	if err != nil {
		return err
	}
	others, err := tx.OtherACLs(r.link.Name)
	if err != nil {
		return err
	}
	r.remembered = own
	r.plan = aclsync.MakePlan(r.wanted, r.destination, own, others)
	r.missing = r.plan.Missing()
	if r.before != nil {
		r.plan.OnlyIfMissing(r.before)
	}
	r.held = nil
	r.plan.Adds = slices.DeleteFunc(r.plan.Adds, func(a aclsync.Binding) bool {
		held := r.refused[a] != nil
		if held {
			r.held = append(r.held, a)
		}
		return held
	})
	return nil
}

// errLinkChanged ends a run whose link was deleted or no longer syncs ACLs.
var errLinkChanged = protocol.Errorf(kerr.InvalidRequest, "the link was deleted, or its ACL sync was switched off, in the meantime")

// decide makes the plan again in a transaction, and stores the records that must exist before the
// plan is carried out.
func (r *aclRun) decide(ctx context.Context, run string) error {
	return r.s.update(ctx, func(tx *store.Tx) error {
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
		if !maps.EqualFunc(r.remembered, r.noted, func(a, b store.ACLEntry) bool { return a.Mark() == b.Mark() }) {
			return errACLsMoved
		}
		next := maps.Clone(r.remembered)
		r.wasOurs = aclsync.Set{}
		for _, a := range r.plan.Adds {
			if _, ours := next[a]; ours {
				r.wasOurs.Add(a)
			}
			next[a] = store.ACLEntry{Binding: a, Run: run}
		}
		for _, a := range r.plan.Joins {
			next[a] = store.ACLEntry{Binding: a, Run: run, Made: true}
		}
		for _, a := range r.plan.Leaves {
			delete(next, a)
		}
		return tx.PutACLs(r.link.Name, r.link.ID, next)
	})
}

// apply carries out the plan at the destination.
func (r *aclRun) apply(ctx context.Context) {
	r.results = aclsync.Create(ctx, r.s.client, r.plan.Adds)
	maps.Copy(r.results, aclsync.Delete(ctx, r.s.client, r.plan.Deletes))
}

// settle drops the records of deleted and definitely refused ACLs, and marks created ones as made.
func (r *aclRun) settle(ctx context.Context, run string) error {
	forget := map[aclsync.Binding]store.ACLMark{} // with the mark that the record must still have
	var made []aclsync.Binding
	for _, a := range r.plan.Deletes {
		if r.results[a] == nil {
			forget[a] = r.remembered[a].Mark()
		}
	}
	for _, a := range r.plan.Adds {
		switch err := r.results[a]; {
		case err == nil:
			made = append(made, a)
		case !r.wasOurs.Has(a) && refusedForCertain(err):
			forget[a] = store.ACLMark{Run: run}
		}
	}
	r.report()
	if len(forget)+len(made) == 0 {
		return nil
	}
	return r.s.update(ctx, func(tx *store.Tx) error {
		if now, err := tx.Link(r.link.Name); err != nil || now == nil || now.ID != r.link.ID || !wantsACLs(now.Configs) {
			return err // the change of the link dropped its records
		}
		own, err := tx.ACLs(r.link.Name, r.link.ID)
		if err != nil {
			return err
		}
		maps.DeleteFunc(own, func(a aclsync.Binding, e store.ACLEntry) bool {
			mark, ok := forget[a]
			return ok && mark == e.Mark()
		})
		for _, a := range made {
			own[a] = store.ACLEntry{Binding: a, Run: run, Made: true}
		}
		return tx.PutACLs(r.link.Name, r.link.ID, own)
	})
}

// report logs what was done.
func (r *aclRun) report() {
	done := func(acls []aclsync.Binding) (n int) {
		for _, a := range acls {
			if r.results[a] == nil {
				n++
			}
		}
		return n
	}
	if created, deleted := done(r.plan.Adds), done(r.plan.Deletes); created+deleted > 0 {
		r.s.log.Info("synced ACLs with the source", "link", r.link.Name, "created", created, "deleted", deleted)
	}
}

// refusedForCertain reports whether the result of a creation proves that the ACL was not and will
// not be created. After a lost connection or a retriable error nobody knows.
func refusedForCertain(err error) bool {
	var code *kerr.Error
	return errors.As(err, &code) && !code.Retriable && code != kerr.UnknownServerError
}

// refusedNow returns the ACLs that the destination definitely refused in this run. If there are
// any, it adds those that the run did not try.
func (r *aclRun) refusedNow() aclsync.Results {
	refused := aclsync.Results{}
	for _, a := range r.plan.Adds {
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

// errors returns the errors of the run, one for each reason, as many ACLs often share a reason.
func (r *aclRun) errors() []model.TaskError {
	type reason struct {
		first model.TaskError
		more  int
	}
	var reasons []*reason
	known := map[string]*reason{}
	note := func(what string, acls []aclsync.Binding, results aclsync.Results) {
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
	note("create", r.plan.Adds, r.results)
	note("delete", r.plan.Deletes, r.results)
	var errs []model.TaskError
	for _, n := range reasons {
		if n.more > 0 {
			n.first.Message += fmt.Sprintf(" (and %d more ACLs, for the same reason)", n.more)
		}
		errs = append(errs, n.first)
	}
	return append(errs, leftOutNotes(r.leftOut)...)
}

// aclError says why an ACL could not be created or deleted.
func aclError(what string, a aclsync.Binding, err error) *protocol.Error {
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return mayNotAlterACLs()
	}
	e := asError(err)
	return protocol.Errorf(e.Code, "could not %s the ACL %s at the destination: %s", what, a, e.Message)
}

// lockACLs waits for the runs of other links to end.
func (s *Service) lockACLs(ctx context.Context) (unlock func(), err error) {
	select {
	case s.aclLock <- struct{}{}:
		return func() { <-s.aclLock }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("could not wait for the ACL sync of another link to finish: %w", ctx.Err())
	}
}

// leftOutNotes returns the notes for the task's status, one for each reason.
func leftOutNotes(out map[aclsync.Binding]string) (notes []model.TaskError) {
	of := map[string][]aclsync.Binding{}
	var reasons []string
	for _, a := range aclsync.Sorted(out) {
		if of[out[a]] == nil {
			reasons = append(reasons, out[a])
		}
		of[out[a]] = append(of[out[a]], a)
	}
	for _, reason := range reasons {
		acls := of[reason]
		text := fmt.Sprintf("not copied: %s", acls[0])
		if more := len(acls) - 1; more > 0 {
			text += fmt.Sprintf(" and %d more ACLs", more)
		}
		notes = append(notes, model.TaskError{Code: model.ErrLeftOut, Message: text + ": " + reason})
	}
	return notes
}
