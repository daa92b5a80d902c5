package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"klink/admin/model"
	"klink/internal/jsonbound"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/core"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// boardInterval is how often an instance publishes what has changed, and boardAgain how often
	// it publishes everything.
	boardInterval = time.Second
	boardAgain    = 5 * time.Second
	// boardKeeps is how long a record counts. After that nothing is known of its subject: the owner
	// is gone, or cut off.
	boardKeeps = 15 * time.Second
	// boardChunk is the number of partitions in one record: some 100 KB.
	boardChunk = 1000
	// maxBoardBytes bounds a record that is read.
	maxBoardBytes = 1 << 20
	// maxBoardDrift bounds the record of a mirror's config drift, in bytes: some hundred configs.
	// Configs beyond it are left out.
	maxBoardDrift = 16 << 10
)

// boardLimits bound what is decoded of a record. The largest has boardChunk partitions of nine
// numbers.
var boardLimits = jsonbound.Limits{Bytes: maxBoardBytes, Depth: 8, Values: 20 * boardChunk}

// board lets instances publish to each other how far their mirrors are, how the tasks of their
// links do, and what these tasks have found. So each instance can answer for all of them.
//
// The records are in TasksTopic, in the partition of the slot of their subject. An instance writes
// one record per mirror (and boardChunk partitions) for the partitions that it copies, one per
// link, and one per mirror whose configs differ from the source's.
//
// Only what is shown to people depends on the board. From it a mirror's coordinator also learns
// that other instances cannot reach the source's topic. So records may get lost, and last as long
// as the topic keeps them. An instance that is alone does not use the board, and does not create
// the topic.
//
// Anybody who may write to the topic can have written a record. So what is read is bounded, and
// counts only for mirrors and links that exist.
type board struct {
	r      *Replicator
	mu     sync.Mutex
	stop   context.CancelFunc // not nil while there are other instances
	done   sync.WaitGroup
	topics map[string]*toldMirror
	links  map[string]*toldLink
	drift  map[string]*toldDrift // by mirror
}

type toldMirror struct {
	partitions []model.PartitionStatus
	at         []time.Time           // by partition: when its status was read
	trouble    map[int32]toldTrouble // by the first partition of the record
}

type toldTrouble struct {
	at      time.Time
	failure *core.Failure // nil = none
}

type toldLink struct {
	at    time.Time
	tasks []model.TaskStatus
}

type toldDrift struct {
	at    time.Time
	drift []model.ConfigDrift
}

// boardMirror is the value of a record mirror/TOPIC/FIRST: the partitions of a mirror that one
// instance copies, and why it cannot go on with them for now. Times are Unix milliseconds, 0 =
// never.
type boardMirror struct {
	Version int     `json:"version"`
	IDs     []int32 `json:"ids"`
	Error   string  `json:"error,omitempty"`
	Message string  `json:"message,omitempty"`
	// A row of Partitions is: source end, mirror end, last fetch, last stable offset, source start,
	// mirror start, shift began, when the mirror last had everything, and the count of joined
	// batches. Earlier versions do not write the last two.
	Partitions [][9]int64 `json:"partitions"`
}

// boardDrift is the value of a record drift/TOPIC. The owner of the mirror's link writes it,
// because it runs the task that finds the drift.
type boardDrift struct {
	Version int           `json:"version"`
	Configs []boardConfig `json:"configs,omitempty"` // none: the drift is over
}

type boardConfig struct {
	Name   string  `json:"name"`
	Source *string `json:"source"`
	Mirror *string `json:"mirror"`
}

// boardLink is the value of a record link/NAME.
type boardLink struct {
	Version int         `json:"version"`
	Tasks   []boardTask `json:"tasks"`
}

type boardTask struct {
	Name    string            `json:"name"`
	Errors  []model.TaskError `json:"errors,omitempty"`
	LastRun int64             `json:"last_run"`
	Success int64             `json:"last_success"`
}

func newBoard(r *Replicator) *board {
	return &board{r: r, topics: map[string]*toldMirror{}, links: map[string]*toldLink{}, drift: map[string]*toldDrift{}}
}

// share starts or stops publishing and listening.
func (b *board) share(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case on && b.stop == nil && b.r.life.Err() == nil:
		var ctx context.Context
		ctx, b.stop = context.WithCancel(b.r.life)
		b.done.Go(func() { b.run(ctx) })
	case !on && b.stop != nil:
		b.stop()
		b.stop = nil
	}
}

func (b *board) close() {
	b.share(false)
	b.done.Wait()
}

func (b *board) run(ctx context.Context) {
	wait := retry.Backoff{Low: 200 * time.Millisecond, High: 5 * time.Second}
	for ctx.Err() == nil {
		if err := b.work(ctx); err != nil && ctx.Err() == nil {
			b.r.log.Warn("instances cannot share the progress of their mirrors, will retry", "topic", group.TasksTopic, "error", err)
		}
		if retry.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}

// work publishes and listens until ctx ends.
func (b *board) work(ctx context.Context) error {
	cl, err := kgo.NewClient(append(append([]kgo.Opt(nil), b.r.cfg.Destination...),
		kgo.ConsumeTopics(group.TasksTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().Add(-boardKeeps).UnixMilli())),
		kgo.FetchMaxWait(time.Second), kgo.FetchMaxPartitionBytes(maxBoardBytes), kgo.FetchMaxBytes(8*maxBoardBytes), kafkaclient.MaxInflated(2*maxBoardBytes),
		kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(boardAgain), kgo.MaxBufferedRecords(10_000), kgo.MetadataMinAge(200*time.Millisecond),
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	partitions, err := b.ensureTopic(ctx, kadm.NewClient(cl))
	if err != nil {
		return err
	}
	listening, cancel := context.WithCancel(ctx)
	var listener sync.WaitGroup
	listener.Go(func() { b.listen(listening, cl) })
	defer listener.Wait()
	defer cancel()
	told := map[string]toldRecord{}
	t := time.NewTicker(boardInterval)
	defer t.Stop()
	for {
		b.tell(cl, partitions, told, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// ensureTopic creates the topic if it does not exist, and returns its number of partitions.
func (b *board) ensureTopic(ctx context.Context, adm *kadm.Client) (int32, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	config := func(v string) *string { return &v }
	for {
		details, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx), group.TasksTopic)
		if err != nil {
			return 0, err
		}
		d := details[group.TasksTopic]
		if d.Err == nil && len(d.Partitions) > 0 {
			return int32(len(d.Partitions)), nil
		}
		if errors.Is(d.Err, kerr.UnknownTopicOrPartition) || !details.Has(group.TasksTopic) {
			configs := map[string]*string{
				"cleanup.policy": config("delete"), "retention.ms": config("600000"), "segment.ms": config("600000"), "segment.bytes": config("16777216"),
			}
			resp, err := adm.CreateTopic(ctx, group.Slots, -1, configs, group.TasksTopic)
			if err == nil {
				err = resp.Err
			}
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return 0, fmt.Errorf("could not create it: %w; klink's principal needs CREATE, READ and WRITE on it", err)
			}
		}
		if retry.Sleep(ctx, 100*time.Millisecond) != nil {
			return 0, fmt.Errorf("the topic does not appear: %w", ctx.Err())
		}
	}
}

// toldRecord is the last record that was published under a key.
type toldRecord struct {
	value string // without the fields that change all the time
	at    time.Time
}

// tell publishes what this instance owns, if it has changed or was last published boardAgain ago.
func (b *board) tell(cl *kgo.Client, partitions int32, told map[string]toldRecord, now time.Time) {
	send := func(slot int, key string, still, value any) {
		text, err := json.Marshal(still)
		if err != nil {
			return
		}
		if last := told[key]; last.value == string(text) && now.Sub(last.at) < boardAgain {
			return
		}
		told[key] = toldRecord{string(text), now}
		v, err := json.Marshal(value)
		if err != nil {
			return
		}
		cl.TryProduce(b.r.life, &kgo.Record{Topic: group.TasksTopic, Partition: int32(slot) % partitions, Key: []byte(key), Value: v}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.r.log.Debug("could not publish a status", "key", key, "error", err)
			}
		})
	}
	st, terms := b.r.cfg.Control.State(), b.r.owner.termsNow()
	for topic := range st.Mirrors {
		status := b.r.statusHere(topic)
		var here []int32
		for p := range status {
			if terms[group.PartitionSlot(topic, int32(p))] != 0 {
				here = append(here, int32(p))
			}
		}
		var trouble *core.Failure
		if m := b.r.mirror(topic); m != nil {
			trouble = m.unavailable()
		}
		for ids := range slices.Chunk(here, boardChunk) {
			value, still := boardMirror{Version: 2, IDs: ids}, boardMirror{IDs: ids}
			if trouble != nil {
				value.Error, value.Message = string(trouble.Code), trouble.Message
				still.Error, still.Message = value.Error, value.Message
			}
			for _, id := range ids {
				p := status[id]
				row := [9]int64{
					p.SourceEnd, p.MirrorEnd, unixMilli(p.LastFetch), p.SourceLastStable, p.SourceStart, p.MirrorStart, p.ShiftBegan,
					unixMilli(p.CaughtUp), p.Joined,
				}
				value.Partitions = append(value.Partitions, row)
				row[2], row[7], row[8] = 0, 0, 0
				still.Partitions = append(still.Partitions, row)
			}
			send(group.PartitionSlot(topic, ids[0]), "mirror/"+topic+"/"+strconv.Itoa(int(ids[0])), still, value)
		}
	}
	b.tellDrift(st, told, send)
	if b.r.cfg.Group.Tasks == nil {
		return
	}
	for link := range st.Links {
		if b.r.owner.term(group.LinkSlot(link)) == 0 {
			continue
		}
		value, still := boardLink{Version: 1}, boardLink{}
		for _, t := range b.r.cfg.Group.Tasks(link) {
			row := boardTask{Name: t.Name, Errors: t.Errors, LastRun: unixMilli(t.LastRun), Success: unixMilli(t.LastSuccess)}
			value.Tasks = append(value.Tasks, row)
			row.LastRun, row.Success = 0, min(row.Success, 1)
			still.Tasks = append(still.Tasks, row)
		}
		send(group.LinkSlot(link), "link/"+link, still, value)
	}
}

// tellDrift publishes the config drift of mirrors. It publishes nothing of a mirror without drift,
// except, once, that its drift is over.
func (b *board) tellDrift(st *model.State, told map[string]toldRecord, send func(slot int, key string, still, value any)) {
	if b.r.cfg.Group.Drift == nil {
		return
	}
	none := boardDrift{Version: 1}
	for topic, m := range st.Mirrors {
		slot := group.LinkSlot(m.Link)
		if b.r.owner.term(slot) == 0 {
			continue
		}
		value, key := none, "drift/"+topic
		for _, d := range b.r.cfg.Group.Drift(topic) {
			value.Configs = append(value.Configs, boardConfig{d.Name, d.Source, d.Mirror})
		}
		value.cut(maxBoardDrift)
		if last, ok := told[key]; len(value.Configs) == 0 && (!ok || last.value == none.text()) {
			continue
		}
		send(slot, key, value, value)
	}
	for key := range told {
		if topic, ok := strings.CutPrefix(key, "drift/"); ok && st.Mirrors[topic] == nil {
			delete(told, key)
		}
	}
}

func (d *boardDrift) text() string {
	text, _ := json.Marshal(d)
	return string(text)
}

// cut drops configs until the record has at most most bytes.
func (d *boardDrift) cut(most int) {
	for len(d.Configs) > 0 && len(d.text()) > most {
		d.Configs = d.Configs[:len(d.Configs)-1]
	}
}

func (b *board) listen(ctx context.Context, cl *kgo.Client) {
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			if ctx.Err() == nil {
				b.r.log.Debug("cannot read the status that other instances publish", "topic", group.TasksTopic, "error", err)
			}
		})
		st, now := b.r.cfg.Control.State(), time.Now()
		fetches.EachRecord(func(r *kgo.Record) { b.hear(st, string(r.Key), r.Value, now) })
		b.forget(st)
	}
}

// hear reads one record.
func (b *board) hear(st *model.State, key string, value []byte, now time.Time) {
	kind, name, _ := strings.Cut(key, "/")
	if jsonbound.Check(value, boardLimits) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch kind {
	case "mirror":
		name, _, _ = strings.Cut(name, "/")
		var v boardMirror
		m := st.Mirrors[name]
		if m == nil || json.Unmarshal(value, &v) != nil || v.Version != 2 || len(v.IDs) == 0 || len(v.IDs) != len(v.Partitions) ||
			slices.Min(v.IDs) < 0 || slices.Max(v.IDs) >= m.Partitions {
			return
		}
		t := b.topics[name]
		if t == nil || len(t.partitions) != int(m.Partitions) {
			t = &toldMirror{partitions: unknownStatus(int(m.Partitions)), at: make([]time.Time, m.Partitions), trouble: map[int32]toldTrouble{}}
			b.topics[name] = t
		}
		t.trouble[v.IDs[0]] = toldTrouble{at: now}
		if v.Error != "" && len(v.Error) <= 64 {
			t.trouble[v.IDs[0]] = toldTrouble{now, core.Failf(model.Error(v.Error), "%.1000s", v.Message)}
		}
		for i, row := range v.Partitions {
			id := v.IDs[i]
			t.at[id] = now
			for n := range row {
				row[n] = max(row[n], -1)
			}
			t.partitions[id] = model.PartitionStatus{
				SourceEnd: row[0], MirrorEnd: row[1], LastFetch: fromMilli(row[2]), SourceLastStable: row[3], SourceStart: row[4], MirrorStart: row[5], ShiftBegan: row[6], CaughtUp: fromMilli(row[7]), Joined: row[8],
			}
		}
	case "drift":
		var v boardDrift
		if st.Mirrors[name] == nil || len(value) > maxBoardDrift || json.Unmarshal(value, &v) != nil || v.Version != 1 {
			return
		}
		t := &toldDrift{at: now}
		for _, c := range v.Configs {
			t.drift = append(t.drift, model.ConfigDrift{Name: c.Name, Source: c.Source, Mirror: c.Mirror})
		}
		b.drift[name] = t
	case "link":
		var v boardLink
		if st.Links[name] == nil || json.Unmarshal(value, &v) != nil || v.Version != 1 {
			return
		}
		t := &toldLink{at: now}
		for _, row := range v.Tasks {
			t.tasks = append(t.tasks, model.TaskStatus{Name: row.Name, Errors: row.Errors, LastRun: fromMilli(row.LastRun), LastSuccess: fromMilli(row.Success)})
		}
		b.links[name] = t
	}
}

// forget drops what was published about mirrors and links that are gone.
func (b *board) forget(st *model.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic := range b.topics {
		if st.Mirrors[topic] == nil {
			delete(b.topics, topic)
		}
	}
	for topic := range b.drift {
		if st.Mirrors[topic] == nil {
			delete(b.drift, topic)
		}
	}
	for link := range b.links {
		if st.Links[link] == nil {
			delete(b.links, link)
		}
	}
}

// status returns what other instances have published about a mirror within boardKeeps; nil =
// nothing.
func (b *board) status(topic string) []model.PartitionStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	if t == nil {
		return nil
	}
	s, known := unknownStatus(len(t.partitions)), false
	for id, at := range t.at {
		if time.Since(at) < boardKeeps {
			s[id], known = t.partitions[id], true
		}
	}
	if !known {
		return nil
	}
	return s
}

// toldTrouble returns why another instance cannot go on with partitions of a mirror for now; nil =
// none has published such a reason within boardKeeps.
func (r *Replicator) toldTrouble(topic string) *core.Failure {
	b := r.board.Load()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[topic]
	if t == nil {
		return nil
	}
	for first, told := range t.trouble {
		if told.failure != nil && time.Since(told.at) < boardKeeps && !r.OwnsPartition(topic, first) {
			return told.failure
		}
	}
	return nil
}

// told returns what other instances have published about a mirror within boardKeeps; nil = nothing.
func (r *Replicator) told(topic string) []model.PartitionStatus {
	if b := r.board.Load(); b != nil {
		return b.status(topic)
	}
	return nil
}

// LinkTasks returns what the owner of a link has published about its tasks within boardKeeps; nil =
// nothing.
func (r *Replicator) LinkTasks(link string) []model.TaskStatus {
	b := r.board.Load()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.links[link]; t != nil && time.Since(t.at) < boardKeeps {
		return t.tasks
	}
	return nil
}

// ConfigDrift returns what the owner of a mirror's link has published about the mirror's configs
// within boardKeeps; nil = nothing.
func (r *Replicator) ConfigDrift(topic string) []model.ConfigDrift {
	b := r.board.Load()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.drift[topic]; t != nil && time.Since(t.at) < boardKeeps {
		return t.drift
	}
	return nil
}

var (
	_ model.TaskReporter  = (*Replicator)(nil)
	_ model.DriftReporter = (*Replicator)(nil)
)

// unixMilli returns t in Unix milliseconds, 0 = never.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
