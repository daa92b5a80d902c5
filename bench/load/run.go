package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// Config describes the load on an existing topic. If the records are read from another cluster, the
// topic exists there too.
type Config struct {
	Topic string
	Run   uint64 // tells this run's records from others
	// Starts are the offsets of the partitions, from 0 on, at which reading begins.
	Starts []int64
	// Fresh: this run has created the topic, so nobody else writes to it.
	Fresh bool

	Rate       float64 // records a second; 0 = as fast as possible
	RecordSize int     // bytes of a value, at least [MinRecordSize]
	Payload    string  // one of [Payloads]
	Producers  int     // clients
	Consumers  int     // clients; 0 = nothing is read and verified
	Warmup     time.Duration
	Duration   time.Duration // besides the warm-up
	// Drain is how long the end of the run may take without progress.
	Drain time.Duration
	// DeliveryTimeout is how long a record may wait to be acknowledged.
	DeliveryTimeout time.Duration

	Acks        kgo.Acks
	Compression kgo.CompressionCodec
	BatchSize   int // bytes of values, before compression
	Linger      time.Duration

	// Write and Read make clients of the cluster to write to and of the cluster to read from.
	Write, Read func(...kgo.Opt) (*kgo.Client, error)
	// OnSecond, unless nil, is called with every second, by one goroutine.
	OnSecond func(Second)
}

// Result is the outcome of a run. Rates cover the run without warm-up and drain; latencies cover
// all records sent in that time.
type Result struct {
	Interrupted bool    `json:"interrupted"`
	Seconds     float64 `json:"seconds"`
	Sent        int64   `json:"sent"`
	Acked       int64   `json:"acked"`
	Failed      int64   `json:"failed"`
	Read        int64   `json:"read"`
	// Unsent counts the records that were due at the given rate but were not sent, because the
	// cluster did not accept them fast enough. The latencies do not include them.
	Unsent int64 `json:"unsent"`

	SentPerSecond  float64 `json:"sent_records_per_s"`
	SentMB         float64 `json:"sent_mb_per_s"` // 10^6 bytes of values
	AckedPerSecond float64 `json:"acked_records_per_s"`
	ReadPerSecond  float64 `json:"read_records_per_s"`
	ReadMB         float64 `json:"read_mb_per_s"`
	MaxLag         int64   `json:"max_lag"` // records, at the end of a second

	Ack            Latency      `json:"ack"`        // from due to acknowledged
	EndToEnd       Latency      `json:"end_to_end"` // from due to read
	AckPercentiles []Percentile `json:"ack_percentiles"`
	EndPercentiles []Percentile `json:"end_to_end_percentiles"`

	Verified     bool         `json:"verified"` // everything that was written was read, unchanged
	Verification Verification `json:"verification"`
	// Errors has the first error of each text; ErrorCount counts all errors.
	Errors     []string `json:"errors"`
	ErrorCount int64    `json:"error_count"`
}

// run is a running load.
type run struct {
	Config
	began    time.Time
	meter    *meter
	ledgers  []*ledger
	verifier *verifier
	errors   errorList
	stop     context.CancelFunc    // ends sending
	broken   atomic.Pointer[error] // the first error that ends the run
	unsent   atomic.Int64
	unread   atomic.Bool // reading has failed
}

func (r *run) since() time.Duration { return time.Since(r.began) }

// sleepUntil waits for a time since the start. It returns false if ctx has ended before.
func (r *run) sleepUntil(ctx context.Context, at time.Duration) bool {
	d := at - r.since()
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run puts the load on the topic until the duration is over or ctx ends. It then waits until
// everything that was written is read, and compares. The error is one that ended the run early; Run
// returns it with the measurements so far. Damage is not an error: see [Result.Verified].
func Run(ctx context.Context, c Config) (*Result, error) {
	if c.RecordSize < MinRecordSize || c.Producers < 1 || c.Consumers < 0 || len(c.Starts) == 0 || c.Rate < 0 || c.BatchSize < 1 {
		return nil, fmt.Errorf("load: %d bytes, %d producers, %d consumers, %d partitions: not a load", c.RecordSize, c.Producers, c.Consumers, len(c.Starts))
	}
	c.Consumers = min(c.Consumers, len(c.Starts))
	stock, err := newPayloads(c.Payload, c.RecordSize-MinRecordSize, c.Run)
	if err != nil {
		return nil, err
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	r := &run{
		Config: c, meter: newMeter(c.Producers, c.Consumers), ledgers: newLedgers(len(c.Starts), c.Producers), stop: stop,
		verifier: newVerifier(c.Run, c.Producers, c.Starts, c.Fresh),
	}
	var producers []*producer
	var consumers []*consumer
	defer func() {
		for _, p := range producers {
			p.client.Close()
		}
		for _, c := range consumers {
			c.client.Close()
		}
	}()
	for id := range c.Consumers {
		one, err := r.newConsumer(id)
		if err != nil {
			return nil, err
		}
		consumers = append(consumers, one)
	}
	for id := range c.Producers {
		one, err := r.newProducer(id, stock)
		if err != nil {
			return nil, err
		}
		producers = append(producers, one)
	}
	for _, p := range producers {
		if err := p.client.Ping(ctx); err != nil {
			return nil, err
		}
	}
	r.began = time.Now()
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	var readers sync.WaitGroup
	for _, c := range consumers {
		readers.Go(func() { c.read(reading) })
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		inTime, cancel := context.WithDeadline(sending, r.began.Add(c.Warmup+c.Duration))
		defer cancel()
		var all sync.WaitGroup
		for _, p := range producers {
			all.Go(func() { r.unsent.Add(int64(p.send(inTime))) })
		}
		all.Wait()
	}()
	r.tick(sent, false, r.phase)
	stop()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		r.drain(context.WithoutCancel(ctx), producers)
	}()
	r.tick(drained, true, func(time.Duration) string { return PhaseDrain })
	stopReading()
	readers.Wait()
	res := r.result(ctx.Err() != nil)
	if err := r.broken.Load(); err != nil {
		return res, *err
	}
	return res, nil
}

// fail ends sending. The run ends with the first error that fail gets.
func (r *run) fail(err error) {
	r.broken.CompareAndSwap(nil, &err)
	r.stop()
}

func (r *run) phase(at time.Duration) string {
	if at <= r.Warmup {
		return PhaseWarmup
	}
	return PhaseRun
}

// tick ends a second every second, until done. The end of the warm-up also ends a second.
func (r *run) tick(done <-chan struct{}, last bool, phase func(time.Duration) string) {
	emit := func() {
		at := r.since()
		if s := r.meter.second(at, phase(r.meter.last+time.Nanosecond)); r.OnSecond != nil {
			r.OnSecond(s)
		}
	}
	for {
		next := r.meter.last.Truncate(time.Second) + time.Second
		if next-r.meter.last < 100*time.Millisecond {
			next += time.Second // the previous tick came late
		}
		if r.meter.last < r.Warmup && next > r.Warmup {
			next = r.Warmup
		}
		t := time.NewTimer(next - r.since())
		select {
		case <-t.C:
			emit()
		case <-done:
			t.Stop()
			// The rest of a second counts as one too, unless it is too short to have a rate and
			// other seconds follow.
			if r.since()-r.meter.last > 100*time.Millisecond || last {
				emit()
			}
			return
		}
	}
}

// drain waits until all records are acknowledged and read, or until there is no more progress.
func (r *run) drain(ctx context.Context, producers []*producer) {
	within, cancel := context.WithTimeout(ctx, r.Drain)
	defer cancel()
	var all errgroup.Group
	for _, p := range producers {
		all.Go(func() error {
			p.flush(within)
			return nil
		})
	}
	_ = all.Wait()
	if r.Consumers == 0 {
		return
	}
	ends := r.ends(ctx)
	last, at := int64(-1), time.Now()
	for {
		behind, progress := false, int64(0)
		for i, v := range r.verifier.partitions {
			progress += v.next.Load()
			behind = behind || v.distinct.Load() < r.ledgers[i].acked.Load() || v.next.Load() < ends[i]
		}
		if !behind {
			return
		}
		if progress != last {
			last, at = progress, time.Now()
		}
		if time.Since(at) > r.Drain || r.unread.Load() {
			return
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // readers count as fast as they can and tell nobody
	}
}

// ends returns the ends of the partitions, at the cluster where they are further: reading goes up
// to there. If the cluster does not tell them, ends uses the acknowledged offsets.
func (r *run) ends(ctx context.Context) []int64 {
	ends := slices.Clone(r.Starts)
	ctx, cancel := context.WithTimeout(ctx, r.Drain)
	defer cancel()
	for _, connect := range []func(...kgo.Opt) (*kgo.Client, error){r.Write, r.Read} {
		client, err := connect()
		if err != nil {
			continue
		}
		at, err := kadm.NewClient(client).ListEndOffsets(ctx, r.Topic)
		client.Close()
		if err != nil {
			continue
		}
		for i := range ends {
			if o, ok := at.Lookup(r.Topic, int32(i)); ok && o.Err == nil {
				ends[i] = max(ends[i], o.Offset)
			}
		}
	}
	return ends
}

func (r *run) result(interrupted bool) *Result {
	t, m := r.meter.total, r.meter
	res := &Result{
		Interrupted: interrupted, Seconds: t.Length, Sent: m.sent.Load(), Acked: m.acked.Load(), Failed: m.failed.Load(), Read: m.read.Load(), Unsent: r.unsent.Load(), MaxLag: t.Lag,
		Ack: latencyOf(m.ackAll), EndToEnd: latencyOf(m.endAll), AckPercentiles: distribution(m.ackAll), EndPercentiles: distribution(m.endAll),
	}
	if t.Length > 0 {
		res.SentPerSecond, res.SentMB = float64(t.Sent)/t.Length, float64(t.SentBytes)/t.Length/1e6
		res.AckedPerSecond = float64(t.Acked) / t.Length
		res.ReadPerSecond, res.ReadMB = float64(t.Read)/t.Length, float64(t.ReadBytes)/t.Length/1e6
	}
	if r.Consumers > 0 {
		res.Verification = r.verifier.finish(r.ledgers, r.Acks != kgo.NoAck())
		res.Verified = len(res.Verification.Damage) == 0
	}
	res.Errors, res.ErrorCount = r.errors.all()
	return res
}

// retriable reports whether reading may go on after an error.
func retriable(err error) bool {
	var code *kerr.Error
	return !errors.As(err, &code) || code.Retriable
}

// errorList keeps the first errors of different texts.
type errorList struct {
	mu    sync.Mutex
	texts []string
	count int64
}

// maxErrors is the number of texts that are kept.
const maxErrors = 10

func (l *errorList) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if len(l.texts) < maxErrors && !slices.Contains(l.texts, text) {
		l.texts = append(l.texts, text)
	}
}

func (l *errorList) all() ([]string, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.texts...), l.count
}
