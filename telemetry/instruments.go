package telemetry

import (
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"

	"klink/admin/model"
	"klink/protocol/linkapi"
	"klink/protocol/timeline"
	"klink/proxy"
	"klink/replicator"
)

// Sources provide the numbers. A nil member leaves its instruments out.
type Sources struct {
	Proxy *proxy.Stats
	// RejectedProduces counts partitions of produce requests that klink itself refused.
	RejectedProduces func() int64
	// VoidedBatches counts batches that klink made void on their way to a client.
	VoidedBatches func() int64
	// Probes counts reads of mirrors' logs that look for an offset which the timeline lacks.
	Probes     func() int64
	Replicator func() replicator.Stats
	State      func() *model.State
	// LinkTasks returns the tasks of each link.
	LinkTasks func() map[string][]model.TaskStatus
	// StateAge returns the time since the state topic was last read to its end; false if it never
	// was.
	StateAge func() (time.Duration, bool)
	// Now is the clock that LinkTasks uses; nil = time.Now.
	Now func() time.Time
}

// kind is the type of an instrument.
type kind string

const (
	counter kind = "counter" // never decreases
	gauge   kind = "gauge"
)

// emit reports one value, with the values of the instrument's labels in the order of labels.
type emit func(value float64, labels ...string)

// instrument is one row of the table.
type instrument struct {
	name   string // OpenTelemetry name
	prom   string // name in the Prometheus exposition
	kind   kind
	unit   string // UCUM
	labels []string
	doc    string
	// observe is called at each collection. p has everything that the instrument's group needs.
	observe func(p *picture, out emit)
}

// picture is the input of one collection: each snapshot is taken once.
type picture struct {
	proxy      *proxy.Stats
	rejected   func() int64
	voided     func() int64
	probes     func() int64
	stateAge   func() (time.Duration, bool)
	replicator *replicator.Stats
	state      *model.State
	tasks      map[string][]model.TaskStatus
	now        time.Time
}

func (s Sources) picture() *picture {
	p := &picture{proxy: s.Proxy, rejected: s.RejectedProduces, voided: s.VoidedBatches, probes: s.Probes, stateAge: s.StateAge}
	if s.Replicator != nil {
		stats := s.Replicator()
		p.replicator = &stats
	}
	if s.State != nil {
		p.state = s.State()
	}
	if s.LinkTasks != nil {
		p.tasks = s.LinkTasks()
	}
	p.now = time.Now()
	if s.Now != nil {
		p.now = s.Now()
	}
	return p
}

// instruments is the table; docs/metrics.md is generated from it.
var instruments = []instrument{
	// The proxy.
	{
		"klink.proxy.connections", "klink_proxy_connections", gauge, "{connection}", nil, "Client connections that are open.",
		onProxy(func(s *proxy.Stats, out emit) { out(float64(s.Connections.Load())) }),
	},
	{
		"klink.proxy.connections.accepted", "klink_proxy_connections_accepted_total", counter, "{connection}", nil, "Client connections accepted.",
		onProxy(func(s *proxy.Stats, out emit) { out(float64(s.Accepted.Load())) }),
	},
	{
		"klink.proxy.connections.closed", "klink_proxy_connections_closed_total", counter, "{connection}",
		[]string{"reason"},
		"Client connections closed, by reason: client, upstream (the broker closed it), dial (the broker could not be reached), idle, frame_size and request (refused frames), response, whole_too_large, tls, limit, drain, panic, internal, login and frame_time (too slow), memory (no room for requests), identity (klink did not let the client in, or no longer), server_name (SNI that leads nowhere), proxy_header (a load balancer sent no valid one).",
		onProxy(func(s *proxy.Stats, out emit) {
			for _, r := range proxy.Reasons() {
				out(float64(s.Closed(r)), r.String())
			}
		}),
	},
	{
		"klink.proxy.request.memory", "klink_proxy_request_memory_bytes", gauge, "By", nil,
		"Memory of client requests that klink has not passed on to a broker yet; at most --request-memory.",
		onProxy(func(s *proxy.Stats, out emit) { out(float64(s.RequestMemory.Load())) }),
	},
	{
		"klink.proxy.frames.refused", "klink_proxy_frames_refused_total", counter, "{frame}", nil,
		"Request frames that klink refused: an impossible size, larger than max-request-bytes, garbage, an API that is not offered, or acks=0 to a mirror. Each closed its connection.",
		onProxy(func(s *proxy.Stats, out emit) {
			out(float64(s.Closed(proxy.ReasonFrameSize) + s.Closed(proxy.ReasonRequest)))
		}),
	},
	{
		"klink.proxy.requests", "klink_proxy_requests_total", counter, "{request}",
		[]string{"api", "version"},
		"Requests of clients, by API name and version.",
		onProxy(func(s *proxy.Stats, out emit) {
			s.EachRequest(func(key, version int16, n int64) { out(float64(n), apiName(key), strconv.Itoa(int(version))) })
		}),
	},
	{
		"klink.proxy.io", "klink_proxy_io_bytes_total", counter, "By",
		[]string{"peer", "direction"},
		"Bytes on the wire, received from and sent to clients (peer=client) and brokers (peer=broker).",
		onProxy(func(s *proxy.Stats, out emit) {
			out(float64(s.ClientReceived.Load()), "client", "received")
			out(float64(s.ClientSent.Load()), "client", "sent")
			out(float64(s.UpstreamReceived.Load()), "broker", "received")
			out(float64(s.UpstreamSent.Load()), "broker", "sent")
		}),
	},
	{
		"klink.proxy.pauses", "klink_proxy_pauses_total", counter, "{pause}", nil, "How often reading from one side was suspended because the other did not keep up.",
		onProxy(func(s *proxy.Stats, out emit) { out(float64(s.Pauses.Load())) }),
	},
	{
		"klink.proxy.produce.rejected", "klink_proxy_produce_rejected_total", counter, "{partition}", nil,
		"Partitions of produce requests that klink refused itself: read-only mirrors, and klink's own topics.",
		func(p *picture, out emit) {
			if p.rejected != nil {
				out(float64(p.rejected()))
			}
		},
	},
	{
		"klink.proxy.batches.voided", "klink_proxy_batches_voided_total", counter, "{batch}", nil,
		"Void batches that klink hid from clients, counted at each read: somebody wrote to a mirror, not through klink, or an append of klink's landed at the wrong offset.",
		func(p *picture, out emit) {
			if p.voided != nil {
				out(float64(p.voided()))
			}
		},
	},
	{
		"klink.proxy.probes", "klink_proxy_probes_total", counter, "{probe}", nil,
		"Reads of one batch in the log of a mirror that is not aligned, to find an offset whose position klink does not remember. A client that reads sequentially needs none, a seek a few, a lookup by timestamp one. All clients together cause at most 4,096 per second, one connection 512; only clients that may read the topic cause any.",
		func(p *picture, out emit) {
			if p.probes != nil {
				out(float64(p.probes()))
			}
		},
	},

	// Links and mirrors.
	{
		"klink.state.age", "klink_state_age_seconds", gauge, "s", nil,
		"Time since klink last read the state topic to its end. Normally about a second; above --state-lease produce requests wait. Absent before the first time.",
		func(p *picture, out emit) {
			if p.stateAge == nil {
				return
			}
			if age, ok := p.stateAge(); ok {
				out(age.Seconds())
			}
		},
	},
	{
		"klink.link.state", "klink_link_state", gauge, "{link}",
		[]string{"link", "state", "error"},
		"1 for the state that the link is in.",
		onState(func(s *model.State, out emit) {
			for name, l := range s.Links {
				out(1, name, string(l.State), string(l.Error))
			}
		}),
	},
	{
		"klink.link.task.state", "klink_link_task_state", gauge, "{task}",
		[]string{"link", "task", "state"},
		"1 for the state that the task of the link is in: ACTIVE, IN_ERROR, PAUSED, NOT_CONFIGURED.",
		onTasks(func(_ *picture, link string, t *model.TaskStatus, out emit) { out(1, link, t.Name, string(t.State)) }),
	},
	{
		"klink.link.task.errors", "klink_link_task_errors", gauge, "{error}",
		[]string{"link", "task", "error"},
		"Errors of the last run of the task, by error name, as klink link task list shows them. Absent if there are none.",
		onTasks(func(_ *picture, link string, t *model.TaskStatus, out emit) {
			n := map[model.Error]int{}
			for _, e := range t.Errors {
				n[e.Code]++
			}
			for code, n := range n {
				out(float64(n), link, t.Name, string(code))
			}
		}),
	},
	{
		"klink.link.task.success.age", "klink_link_task_success_age_seconds", gauge, "s",
		[]string{"link", "task"},
		"Time since the last run of the task that had no error. Absent before the first.",
		onTasks(func(p *picture, link string, t *model.TaskStatus, out emit) {
			if !t.LastSuccess.IsZero() {
				out(max(0, p.now.Sub(t.LastSuccess).Seconds()), link, t.Name)
			}
		}),
	},
	{
		"klink.mirror.state", "klink_mirror_state", gauge, "{mirror}",
		[]string{"link", "topic", "state", "error"},
		"1 for the state that the mirror is in.",
		onState(func(s *model.State, out emit) {
			for topic, m := range s.Mirrors {
				out(1, m.Link, topic, string(m.Shown()), string(m.Error))
			}
		}),
	},
	{
		"klink.mirror.compaction.paused", "klink_mirror_compaction_paused", gauge, "{mirror}",
		[]string{"link", "topic"},
		"1 for a mirror whose compaction is paused at the destination, because its log has void records: klink mirror describe says why. Absent otherwise.",
		onState(func(s *model.State, out emit) {
			for topic, m := range s.Mirrors {
				if m.CompactionRests() {
					out(1, m.Link, topic)
				}
			}
		}),
	},
	{
		"klink.mirror.lag.offsets", "klink_mirror_lag_offsets", gauge, "{offset}",
		[]string{"link", "topic", "partition"},
		"Offsets by which the mirror partition is behind its source: the source's high watermark minus the mirror's end. Absent while unknown.",
		onReplicator(func(s *replicator.Stats, out emit) {
			for _, p := range s.Partitions {
				if p.Offsets >= 0 {
					out(float64(p.Offsets), p.Link, p.Topic, strconv.Itoa(int(p.Partition)))
				}
			}
		}),
	},
	{
		"klink.mirror.lag.time", "klink_mirror_lag_time_seconds", gauge, "s",
		[]string{"link", "topic", "partition"},
		"Time since the mirror partition last had everything that its source had; 0 without lag. Absent while unknown.",
		onReplicator(func(s *replicator.Stats, out emit) {
			for _, p := range s.Partitions {
				if p.Offsets >= 0 {
					out(p.Seconds, p.Link, p.Topic, strconv.Itoa(int(p.Partition)))
				}
			}
		}),
	},

	perTimeline("klink.mirror.shift.offsets", "klink_mirror_shift_offsets", "Offset at the source minus offset in the log of the destination broker, at the end of the log. In a mirror that is not aligned it is not 0 in some partition, or was not 0 at some time.",
		func(t *timeline.Partition) int64 { return t.Shift() }),
	perLink("klink.mirror.void.offsets", "klink_mirror_void_offsets_total", "{offset}", "Void offsets in the logs of the destination brokers; clients of klink never see them. An append was duplicated, came late or followed one that was refused, or somebody wrote to a mirror, not through klink. After a restart klink may count some of them again.",
		func(c *replicator.LinkCounters) int64 { return c.VoidOffsets.Load() }),
	perLink("klink.mirror.foreign.offsets", "klink_mirror_foreign_offsets_total", "{offset}", "Void offsets that somebody other than klink wrote.",
		func(c *replicator.LinkCounters) int64 { return c.ForeignOffsets.Load() }),
	perLink("klink.mirror.records.lost", "klink_mirror_records_lost_total", "{offset}", "Offsets that the source deleted, by retention or DeleteRecords, before they were mirrored. The mirrors continued after them.",
		func(c *replicator.LinkCounters) int64 { return c.LostRecords.Load() }),

	// The replicator.
	{
		"klink.task.partitions", "klink_task_partitions", gauge, "{partition}",
		[]string{"link", "state"},
		"Mirror partitions that this process copies, by the state of their task: resuming, running, anchoring, stopped, failed.",
		onReplicator(func(s *replicator.Stats, out emit) {
			type task struct{ link, state string }
			n := map[task]int{}
			for _, p := range s.Partitions {
				n[task{p.Link, p.State}]++
			}
			for t, n := range n {
				out(float64(n), t.link, t.state)
			}
		}),
	},
	{
		"klink.task.slots", "klink_task_slots", gauge, "{slot}", nil,
		"Slots that this process works on; all processes of a destination have 24 together, except while slots move. If it is 0 for longer than a few seconds, the process is not in the group of klink's instances and copies nothing.",
		onReplicator(func(s *replicator.Stats, out emit) { out(float64(s.Slots)) }),
	},
	perLink("klink.link.fetch.requests", "klink_link_fetch_requests_total", "{request}", "Fetch responses of the source without an error.",
		func(c *replicator.LinkCounters) int64 { return c.Fetches.Load() }),
	perLink("klink.link.fetch.io", "klink_link_fetch_io_bytes_total", "By", "Bytes of record batches received from the source.",
		func(c *replicator.LinkCounters) int64 { return c.FetchedBytes.Load() }),
	perLink("klink.link.fetch.follower.io", "klink_link_fetch_follower_io_bytes_total", "By", "Bytes of record batches that klink took from followers, not from leaders: see client.rack.",
		func(c *replicator.LinkCounters) int64 { return c.FollowerBytes.Load() }),
	perLink("klink.link.fetch.batches", "klink_link_fetch_batches_total", "{batch}", "Record batches received and queued for appending.",
		func(c *replicator.LinkCounters) int64 { return c.FetchedBatches.Load() }),
	perLink("klink.link.append.io", "klink_link_append_io_bytes_total", "By", "Bytes of record batches whose append the destination has confirmed.",
		func(c *replicator.LinkCounters) int64 { return c.AppendedBytes.Load() }),
	perLink("klink.link.append.batches", "klink_link_append_batches_total", "{batch}", "Record batches whose append the destination has confirmed.",
		func(c *replicator.LinkCounters) int64 { return c.AppendedBatches.Load() }),
	perLink("klink.link.append.records", "klink_link_append_records_total", "{record}", "Records whose append the destination has confirmed.",
		func(c *replicator.LinkCounters) int64 { return c.AppendedRecords.Load() }),
	perLink("klink.link.join.batches", "klink_link_join_batches_total", "{batch}", "Record batches of the source that klink joined with others into one batch, because they had queued up behind an append. See append.join.below.",
		func(c *replicator.LinkCounters) int64 { return c.JoinedBatches.Load() }),
	perLink("klink.link.join.io", "klink_link_join_io_bytes_total", "By", "Bytes of the joined batches at the source.",
		func(c *replicator.LinkCounters) int64 { return c.JoinedBytes.Load() }),
	perLink("klink.link.join.made", "klink_link_join_made_total", "{batch}", "Record batches that joining produced.",
		func(c *replicator.LinkCounters) int64 { return c.JoinedInto.Load() }),
	perLink("klink.link.join.made.io", "klink_link_join_made_io_bytes_total", "By", "Bytes of the batches that joining produced.",
		func(c *replicator.LinkCounters) int64 { return c.JoinedIntoBytes.Load() }),
	perLink("klink.link.append.windows", "klink_link_append_windows_total", "{window}", "Confirmed windows: several appends of a partition that were in flight at once.",
		func(c *replicator.LinkCounters) int64 { return c.Windows.Load() }),
	perLink("klink.link.append.windows.batches", "klink_link_append_windows_batches_total", "{batch}", "Record batches in those windows.",
		func(c *replicator.LinkCounters) int64 { return c.WindowBatches.Load() }),
	perLink("klink.link.append.settled", "klink_link_append_settled_total", "{append}", "Appends with an unknown result, after which klink read the log back to see what it holds.",
		func(c *replicator.LinkCounters) int64 { return c.Settled.Load() }),
	{
		"klink.replicator.produces", "klink_replicator_produces_total", counter, "{request}", nil, "Produce requests that the destination has answered.",
		onReplicator(func(s *replicator.Stats, out emit) { out(float64(s.Produces)) }),
	},
	{
		"klink.replicator.fetch.sessions", "klink_replicator_fetch_sessions", gauge, "{session}", nil,
		"Fetch sessions open at the brokers of sources, at most one per broker. A broker keeps at most max.incremental.fetch.session.cache.slots for all its clients and followers.",
		onReplicator(func(s *replicator.Stats, out emit) { out(float64(s.Sessions)) }),
	},
	{
		"klink.replicator.memory", "klink_replicator_memory_bytes", gauge, "By",
		[]string{"kind"},
		"Memory of the replicator: in use now (buffered), the most since the start (peak), and the setting replicator-memory (budget).",
		onReplicator(func(s *replicator.Stats, out emit) {
			out(float64(s.BufferedBytes), "buffered")
			out(float64(s.PeakBufferedBytes), "peak")
			out(float64(s.BudgetBytes), "budget")
		}),
	},
}

func onProxy(f func(*proxy.Stats, emit)) func(*picture, emit) {
	return func(p *picture, out emit) {
		if p.proxy != nil {
			f(p.proxy, out)
		}
	}
}

func onReplicator(f func(*replicator.Stats, emit)) func(*picture, emit) {
	return func(p *picture, out emit) {
		if p.replicator != nil {
			f(p.replicator, out)
		}
	}
}

func onState(f func(*model.State, emit)) func(*picture, emit) {
	return func(p *picture, out emit) {
		if p.state != nil {
			f(p.state, out)
		}
	}
}

func onTasks(f func(*picture, string, *model.TaskStatus, emit)) func(*picture, emit) {
	return func(p *picture, out emit) {
		for link, tasks := range p.tasks {
			for i := range tasks {
				f(p, link, &tasks[i], out)
			}
		}
	}
}

// perTimeline returns a gauge of a timeline, by partition.
func perTimeline(name, prom, doc string, value func(*timeline.Partition) int64) instrument {
	return instrument{name, prom, gauge, "{offset}", []string{"link", "topic", "partition"}, doc, onState(func(s *model.State, out emit) {
		for topic, timelines := range s.Timelines {
			m := s.Mirrors[topic]
			if m == nil {
				continue
			}
			for p, t := range timelines {
				out(float64(value(t)), m.Link, topic, strconv.Itoa(p))
			}
		}
	})}
}

// perLink returns a counter of the replicator, by link.
func perLink(name, prom, unit, doc string, value func(*replicator.LinkCounters) int64) instrument {
	return instrument{name, prom, counter, unit, []string{"link"}, doc, onReplicator(func(s *replicator.Stats, out emit) {
		for link, c := range s.Links {
			out(float64(value(c)), link)
		}
	})}
}

// apiName returns the name of an API key; "other" for a key that no Kafka client sends.
func apiName(key int16) string {
	if name := kmsg.NameForKey(key); name != "" && name != "Unknown" {
		return name
	}
	if _, ok := linkapi.Lookup(key); ok {
		return linkapi.Name(key)
	}
	return "other"
}

// attributes pairs an instrument's labels with values.
func (i *instrument) attributes(values []string) (attribute.Set, error) {
	if len(values) != len(i.labels) {
		return attribute.Set{}, errors.New(i.name + ": number of labels")
	}
	kv := make([]attribute.KeyValue, len(values))
	for n, label := range i.labels {
		kv[n] = attribute.String(label, values[n])
	}
	return attribute.NewSet(kv...), nil
}
