package replicator

import (
	"context"
	"sync/atomic"
	"time"

	"klink/admin"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A source's topic may take from one moment to the next what it did not take before: a larger
// batch, when its max.message.bytes was raised, or a record without a key, when it is compacted no
// more. The mirror's configs follow, but at an interval, and the records may be faster. So a
// refusal that may be for a config is not final before the configs have been found to be right, and
// the batch was refused nevertheless: then the source has lowered its limit since, or the
// destination has one of its own.
const (
	// looksToBelieve is how often in a row the configs have to be found right, with a refusal of
	// the same batch after each: to have set a config is not to have told the broker that leads the
	// partition. With the waits in between that is about three seconds at least.
	looksToBelieve    = 5
	configLookTimeout = 30 * time.Second
)

// mayBeForConfig says whether a destination may answer an append so for a config of the topic that
// follows the source, or that a mirror must have and somebody has changed.
func mayBeForConfig(err error) bool {
	switch err {
	case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp:
		return true
	}
	return false
}

// configRefusal is a batch that was refused, perhaps for a config. Nothing is appended meanwhile.
// It is guarded by worker.mu, but for told.
type configRefusal struct {
	since time.Time // of the first refusal in a row; zero = there is none
	base  int64     // of the batch
	looks int       // looks since then that have found the configs right
	wait  backoff   // between a look and the next append
	told  atomic.Pointer[failure]
}

// refusedForConfig notes that the batch at base was refused with f. final says that f is what is to
// become of the mirror; else the configs are looked at, and the batch is fetched again after that.
func (w *worker) refusedForConfig(base int64, f *failure) (final bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, now := &w.refusal, time.Now()
	if c.since.IsZero() || c.base != base {
		c.since, c.base, c.looks = now, base, 0
		c.wait.reset()
	}
	if c.looks >= looksToBelieve {
		return true
	}
	w.notBefore = now.Add(2 * configLookTimeout) // the look ends it
	w.m.r.spawn(func(ctx context.Context) { w.look(ctx, f.code) })
	return false
}

// look has the configs of the mirror looked at, and lets the batch be fetched again.
func (w *worker) look(ctx context.Context, code admin.Error) {
	ctx, cancel := context.WithTimeout(ctx, configLookTimeout)
	defer cancel()
	right, err := w.m.followConfigs(ctx)
	w.mu.Lock()
	c, now := &w.refusal, time.Now()
	if err == nil && right {
		c.looks++
	}
	w.notBefore = now.Add(c.wait.next())
	tell := err != nil && !c.since.IsZero() && now.Sub(c.since) >= shortagePatience && c.told.Load() == nil
	if tell {
		c.told.Store(failf(code, "%s: the destination refuses the batch at source offset %d, perhaps for a config of topic %q, "+
			"and the topic's configs cannot be made those of the source: %v; both are tried again", w.core.name, c.base, w.m.topic, err))
	}
	w.mu.Unlock()
	if tell {
		w.m.r.wake()
	}
	w.wakeFetcher()
}

// refusalOver notes that the mirror has come further than the batch that was refused; w.mu is held.
// It says whether people were told of the refusal.
func (w *worker) refusalOver() (told bool) {
	c := &w.refusal
	if c.since.IsZero() || w.core.next <= c.base {
		return false
	}
	c.since = time.Time{}
	return c.told.Swap(nil) != nil
}

// waitsForConfig is why the partition waits for a config, nil if it does not.
func (w *worker) waitsForConfig() *failure {
	if w.refusal.told.Load() == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusalOver() // the source may have deleted the batch
	return w.refusal.told.Load()
}

// followConfigs has the configs of the mirror made those of the source's topic, once for all
// partitions that ask meanwhile.
func (m *mirror) followConfigs(ctx context.Context) (right bool, err error) {
	v, err, _ := m.looks.Do("", func() (any, error) { return m.r.cfg.Control.FollowConfigs(ctx, m.topic) })
	right, _ = v.(bool)
	return right, err
}
