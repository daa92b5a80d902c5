package replicator

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/replicator/group"
	"klink/replicator/memory"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config is what a Replicator needs.
type Config struct {
	// Destination are the client options of the destination cluster: seeds, TLS, SASL.
	Destination []kgo.Opt
	// Control publishes what to mirror, and receives what the replicator finds. Required.
	Control Control
	// MemoryBytes bounds the batches held in memory, over all links. Default 256 MiB, at least 1
	// MiB.
	MemoryBytes int64
	// ProduceConnections is how many connections append at each destination broker. Default 3.
	ProduceConnections int
	// DrainTimeout bounds how long Run waits, once its context has ended, for appends in flight.
	// Default 10 s.
	DrainTimeout time.Duration
	// Group configures how instances share the work; nil = there are no other instances.
	Group *Group
	// LinkFiles are the files on this machine that the configs of links may name.
	LinkFiles kafkaclient.Files
	Logger    *slog.Logger
}

// Replicator copies batches. Make one with New, run it with Run, once.
type Replicator struct {
	cfg       Config
	log       *slog.Logger
	budget    *memory.Budget
	recoding  *memory.Recoding
	metrics   *metrics
	dest      *destination
	grace     time.Duration      // settleGrace
	burnPace  *pace              // of all partitions
	fillers   *memory.FillerRoom // of all partitions
	kick      chan struct{}      // asks for a round of reconcile
	holes     chan struct{}      // asks for checkpoints of partitions that end in a hole
	owner     *owner
	board     atomic.Pointer[board] // nil without a group
	sightings *sightings            // nil without a group

	storedReads chan struct{} // semaphore of the appends that are read back

	// life ends when the replicator has drained. Appends, and the reading of logs that settles
	// them, go on after Run's context has ended.
	life       context.Context
	end        context.CancelFunc
	tasks      sync.WaitGroup
	fetchers   atomic.Int64
	sessions   atomic.Int64 // fetch sessions at sources
	partitions atomic.Int64 // of mirrors, in this instance's slots

	mu      sync.Mutex
	mirrors map[string]*mirror // by destination topic

	last map[string]lastStatus // by topic, of mirrors that do not run now but may run again

	// Only reconcile uses these.
	sources map[string]*source
	// inherited are the partitions that existed when this process started, or when their slot was
	// given to this instance. A former process may have sent appends to them a moment ago.
	inherited map[partitionAt]bool
	began     time.Time
	ran       map[partitionAt]bool   // partitions that ran in this process
	closed    map[partitionAt]closed // partitions of PENDING_STOPPED mirrors that were settled here
	seen      [group.Slots]uint64    // terms of the slots, as of the beginning of this round
	terms     [group.Slots]uint64    // as of the last round
	repairs   map[string]*repair
	voidKeys  int // see voidScan.maxKeys

	reportMu sync.Mutex
	reported map[string]report
}

var _ model.Reporter = (*Replicator)(nil)

// New makes a replicator; it connects to nothing yet.
func New(cfg Config) (*Replicator, error) {
	if cfg.Control == nil {
		return nil, errors.New("replicator: Config.Control is missing")
	}
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = 256 << 20
	}
	cfg.MemoryBytes = max(cfg.MemoryBytes, 1<<20)
	if cfg.ProduceConnections <= 0 {
		cfg.ProduceConnections = 3
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	budget := memory.NewBudget(cfg.MemoryBytes)
	r := &Replicator{
		cfg:      cfg,
		log:      cfg.Logger,
		budget:   budget,
		fillers:  memory.NewFillerRoom(budget),
		metrics:  &metrics{},
		grace:    settleGrace,
		burnPace: newPace(defaultBurnRate),
		kick:     make(chan struct{}, 1),
		holes:    make(chan struct{}, 1),
		mirrors:  map[string]*mirror{},
		sources:  map[string]*source{},
		reported: map[string]report{},
		ran:      map[partitionAt]bool{},
		closed:   map[partitionAt]closed{},
		last:     map[string]lastStatus{},
		repairs:  map[string]*repair{},
		voidKeys: maxVoidKeys,

		storedReads: make(chan struct{}, rewrittenReads),
	}
	r.recoding = &memory.Recoding{Budget: r.budget}
	r.owner = newOwner(r, cfg.Group)
	if cfg.Group != nil {
		r.sightings = newSightings()
	}
	return r, nil
}

// Run mirrors what Control's state asks for, until ctx ends. Then it drains: it waits at most
// DrainTimeout for the results of the appends in flight. The state must be complete before the
// caller calls Run. Run fails only if it cannot make a client from the destination's options.
func (r *Replicator) Run(ctx context.Context) error {
	r.began = time.Now()
	r.life, r.end = context.WithCancel(context.WithoutCancel(ctx))
	defer r.end()
	var err error
	if r.dest, err = newDestination(r, r.cfg.Destination, r.cfg.ProduceConnections); err != nil {
		return err
	}
	defer r.dest.close()
	var member *member
	if r.cfg.Group != nil {
		if member, err = newMember(r, *r.cfg.Group); err != nil {
			return err
		}
		defer member.close()
		r.spawn(member.run)
		r.spawn(member.watchOwners)
	}
	r.spawn(r.maintain)
	r.spawn(r.keepCheckpoints)
	r.spawn(r.watchEnds)
	r.spawn(r.examineVoid)
	r.spawn(func(life context.Context) { r.watchPromotions(ctx) })
	r.reconcileUntil(ctx)
	r.drain()
	r.checkpoint(r.life, r.mirrorsNow())
	r.end()
	r.tasks.Wait()
	if member != nil {
		member.leave() // now that nothing is sent any more
	}
	return nil
}

// spawn runs a task that ends with the replicator's life. Run waits for it. Only Run and tasks may
// call spawn: at other times Run may wait already, or may have ended.
func (r *Replicator) spawn(task func(context.Context)) {
	r.tasks.Go(func() { task(r.life) })
}

// wake asks for a round of reconcile soon.
func (r *Replicator) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// drain stops all mirrors. It waits until every append in flight is settled, at most DrainTimeout.
func (r *Replicator) drain() {
	timeout := time.NewTimer(r.cfg.DrainTimeout)
	defer timeout.Stop()
	for _, m := range r.mirrorsNow() {
		m.stop(false)
	}
	for slices.ContainsFunc(r.mirrorsNow(), func(m *mirror) bool { return !m.ended() }) {
		select {
		case <-r.kick:
		case <-timeout.C:
			r.log.Warn("stopping with appends still in flight; the next start reads the logs back")
			return
		}
	}
}

// maintain does the periodic work, once a second: it trims the memory pool, and moves log starts
// after those of the sources. If memory is scarce, it also copies queued batches out of large
// frames.
func (r *Replicator) maintain(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			r.budget.Pool.Trim()
			var workers []*worker
			for _, m := range r.mirrorsNow() {
				workers = append(workers, m.all()...)
			}
			for _, w := range workers {
				w.follow(now)
			}
			if r.budget.Scarce() {
				unpin(r.budget, workers)
			}
		}
	}
}

// mirrorsNow returns a copy of the list of mirrors that run.
func (r *Replicator) mirrorsNow() []*mirror {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.mirrors))
}

func (r *Replicator) mirror(topic string) *mirror {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mirrors[topic]
}

// Status implements model.Reporter. For a mirror that is paused or has failed it returns the last
// known status. The status of a partition that another instance owns is the one that instance
// published.
func (r *Replicator) Status(topic string) []model.PartitionStatus {
	here := r.statusHere(topic)
	if r.board.Load() == nil {
		return here
	}
	told, known := r.told(topic), 0 // known: up to the last partition with a status
	s := unknownStatus(max(len(here), len(told)))
	for p := range s {
		switch own := r.OwnsPartition(topic, int32(p)); {
		case own && p < len(here):
			s[p], known = here[p], p+1
		case !own && p < len(told):
			s[p], known = told[p], p+1
		}
	}
	if known == 0 {
		return nil
	}
	return s[:known]
}

func (r *Replicator) statusHere(topic string) []model.PartitionStatus {
	r.mu.Lock()
	m, last := r.mirrors[topic], r.last[topic]
	r.mu.Unlock()
	if m == nil {
		return slices.Clone(last.partitions)
	}
	return m.status()
}

// reservation returns how many bytes of memory a fetch reserves: at most most, but at least
// minReservation. All fetchers together reserve at most half of what can be reserved, so that
// fetches that wait for data leave room for appends. The result is a size of the memory pool, so
// that the memory fits exactly.
func (r *Replicator) reservation(most int64) int64 {
	share := r.budget.Reservable() / (2 * max(1, r.fetchers.Load()))
	return memory.FloorClass(max(minReservation, min(share, most)))
}

// queueLimit returns the number of queued bytes at which a partition stops fetching: an equal share
// of a quarter of the budget, but at most times*maxPartitionQueue and at least minPartitionQueue.
func (r *Replicator) queueLimit(times int64) int {
	n := max(1, r.partitions.Load())
	return int(max(minPartitionQueue, min(r.budget.Total/(4*n), times*maxPartitionQueue)))
}
