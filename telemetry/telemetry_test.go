package telemetry

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"klink/admin/model"
	"klink/protocol/timeline"
	"klink/proxy"
	"klink/replicator"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the table in docs/metrics.md")

// testSources returns sources with a value for every instrument.
func testSources() Sources {
	stats := &proxy.Stats{}
	stats.Connections.Store(3)
	stats.Accepted.Store(5)
	stats.ClientReceived.Store(100)
	stats.UpstreamSent.Store(90)
	counters := &replicator.LinkCounters{}
	counters.Fetches.Store(7)
	counters.FetchedBytes.Store(1000)
	counters.AppendedRecords.Store(11)
	counters.LostRecords.Store(12)
	counters.VoidOffsets.Store(13)
	counters.ForeignOffsets.Store(14)
	counters.JoinedBatches.Store(15)
	counters.JoinedBytes.Store(1600)
	counters.JoinedInto.Store(2)
	counters.JoinedIntoBytes.Store(1200)
	shifted := timeline.New(0, 7, 7)
	return Sources{
		Proxy:            stats,
		RejectedProduces: func() int64 { return 2 },
		VoidedBatches:    func() int64 { return 6 },
		Probes:           func() int64 { return 8 },
		StateAge:         func() (time.Duration, bool) { return 1500 * time.Millisecond, true },
		Replicator: func() replicator.Stats {
			return replicator.Stats{
				Links: map[string]*replicator.LinkCounters{"east": counters},
				Partitions: []replicator.PartitionLag{
					{Link: "east", Topic: "t", Partition: 0, State: "running", Offsets: 4, Seconds: 1.5},
					{Link: "east", Topic: "t", Partition: 1, State: "running", Offsets: 0},
					{Link: "east", Topic: "t", Partition: 2, State: "resuming", Offsets: -1},
				},
				Produces: 6, BufferedBytes: 10, PeakBufferedBytes: 20, BudgetBytes: 30,
			}
		},
		LinkTasks: func() map[string][]model.TaskStatus {
			return map[string][]model.TaskStatus{"east": {
				{Name: "TopicConfigsSync", State: model.TaskInError, LastSuccess: time.Unix(1000, 0), Errors: []model.TaskError{
					{Code: model.ErrTimeout}, {Code: model.ErrPolicyViolation}, {Code: model.ErrPolicyViolation},
				}},
				{Name: "Never", State: model.TaskActive},
			}}
		},
		Now: func() time.Time { return time.Unix(1002, 500_000_000) },
		State: func() *model.State {
			return &model.State{
				Links:     map[string]*model.Link{"east": {Name: "east", State: model.LinkUnavailable, Error: model.ErrTimeout}},
				Mirrors:   map[string]*model.Mirror{"t": {Topic: "t", Link: "east", State: model.MirrorActive, CleanupPolicy: "compact", Void: []model.VoidBatches{{To: 1, Offsets: 1}}}},
				Timelines: map[string][]*timeline.Partition{"t": {timeline.New(0, 0, 0), shifted}},
			}
		},
	}
}

func serve(t *testing.T, sources Sources, ready func() error) string {
	t.Helper()
	meter, err := NewMeter(context.Background(), sources, "v1.2.3", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	server, err := Serve(ServerConfig{Addr: "127.0.0.1:0", Meter: meter, Ready: ready, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown(context.Background()))
		require.NoError(t, meter.Shutdown(context.Background()))
	})
	return "http://" + server.Addr()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestMetrics(t *testing.T) {
	code, text := get(t, serve(t, testSources(), func() error { return nil })+"/metrics")
	require.Equal(t, 200, code, text)
	for _, want := range []string{
		`klink_proxy_connections 3`,
		`klink_proxy_connections_accepted_total 5`,
		`klink_proxy_connections_closed_total{reason="idle"} 0`,
		`klink_proxy_frames_refused_total 0`,
		`klink_proxy_io_bytes_total{direction="received",peer="client"} 100`,
		`klink_proxy_io_bytes_total{direction="sent",peer="broker"} 90`,
		`klink_proxy_produce_rejected_total 2`,
		`klink_proxy_batches_voided_total 6`,
		`klink_proxy_probes_total 8`,
		`klink_state_age_seconds 1.5`,
		`klink_link_state{error="TIMEOUT_ERROR",link="east",state="UNAVAILABLE"} 1`,
		`klink_link_task_state{link="east",state="IN_ERROR",task="TopicConfigsSync"} 1`,
		`klink_link_task_state{link="east",state="ACTIVE",task="Never"} 1`,
		`klink_link_task_errors{error="POLICY_VIOLATION",link="east",task="TopicConfigsSync"} 2`,
		`klink_link_task_errors{error="TIMEOUT_ERROR",link="east",task="TopicConfigsSync"} 1`,
		`klink_link_task_success_age_seconds{link="east",task="TopicConfigsSync"} 2.5`,
		`klink_mirror_state{error="",link="east",state="ACTIVE",topic="t"} 1`,
		`klink_mirror_compaction_paused{link="east",topic="t"} 1`,
		`klink_mirror_lag_offsets{link="east",partition="0",topic="t"} 4`,
		`klink_mirror_lag_time_seconds{link="east",partition="0",topic="t"} 1.5`,
		`klink_mirror_lag_time_seconds{link="east",partition="1",topic="t"} 0`,
		`klink_mirror_shift_offsets{link="east",partition="0",topic="t"} 0`,
		`klink_mirror_shift_offsets{link="east",partition="1",topic="t"} 7`,
		`klink_mirror_void_offsets_total{link="east"} 13`,
		`klink_mirror_foreign_offsets_total{link="east"} 14`,
		`klink_mirror_records_lost_total{link="east"} 12`,
		`klink_task_partitions{link="east",state="running"} 2`,
		`klink_task_partitions{link="east",state="resuming"} 1`,
		`klink_link_fetch_requests_total{link="east"} 7`,
		`klink_link_fetch_io_bytes_total{link="east"} 1000`,
		`klink_link_append_records_total{link="east"} 11`,
		`klink_link_join_batches_total{link="east"} 15`,
		`klink_link_join_io_bytes_total{link="east"} 1600`,
		`klink_link_join_made_total{link="east"} 2`,
		`klink_link_join_made_io_bytes_total{link="east"} 1200`,
		`klink_replicator_produces_total 6`,
		`klink_replicator_memory_bytes{kind="buffered"} 10`,
		`klink_replicator_memory_bytes{kind="budget"} 30`,
		`target_info{service_name="klink",service_version="v1.2.3"} 1`,
		"go_goroutines ",
		"process_resident_memory_bytes ",
	} {
		require.True(t, strings.Contains(text, "\n"+want), want)
	}
	require.NotContains(t, text, `partition="2"`, "unknown lag must be absent")
	require.NotContains(t, text, `success_age_seconds{link="east",task="Never"}`)
}

// Every row of the table is in the exposition under its Prometheus name, and klink exposes nothing
// else.
func TestPrometheusNames(t *testing.T) {
	_, text := get(t, serve(t, testSources(), func() error { return nil })+"/metrics")
	documented := map[string]kind{}
	for _, i := range instruments {
		documented[i.prom] = i.kind
	}
	seen := map[string]kind{"klink_proxy_requests_total": counter} // needs a request, which only the proxy can count
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (klink_\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		seen[m[1]] = kind(m[2])
	}
	require.Equal(t, documented, seen)
}

func TestWithoutSources(t *testing.T) {
	code, text := get(t, serve(t, Sources{}, func() error { return nil })+"/metrics")
	require.Equal(t, 200, code)
	require.NotContains(t, text, "\nklink_")
}

func TestHealth(t *testing.T) {
	var reason error
	url := serve(t, Sources{}, func() error { return reason })
	for _, c := range []struct {
		reason error
		path   string
		code   int
		text   string
	}{
		{nil, "/healthz", 200, "ok\n"},
		{nil, "/readyz", 200, "ready\n"},
		{errors.New("no brokers"), "/readyz", 503, "not ready: no brokers\n"},
		{errors.New("no brokers"), "/healthz", 200, "ok\n"},
		{nil, "/debug/pprof/", 404, "404 page not found\n"},
	} {
		reason = c.reason
		code, text := get(t, url+c.path)
		require.Equal(t, c.code, code, c.path)
		require.Equal(t, c.text, text, c.path)
	}
}

func TestPProf(t *testing.T) {
	meter, err := NewMeter(context.Background(), Sources{}, "", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	server, err := Serve(ServerConfig{Addr: "127.0.0.1:0", Meter: meter, Ready: func() error { return nil }, PProf: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer server.Shutdown(context.Background())
	code, text := get(t, "http://"+server.Addr()+"/debug/pprof/")
	require.Equal(t, 200, code)
	require.Contains(t, text, "goroutine")
	_, err = Serve(ServerConfig{Addr: server.Addr(), Meter: meter})
	require.ErrorContains(t, err, "listen for metrics and health")
}

func TestOTLPOnlyWhenAsked(t *testing.T) {
	for _, v := range append(otlpVariables, "OTEL_SDK_DISABLED") {
		t.Setenv(v, "")
	}
	require.False(t, otlpWanted())
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	require.True(t, otlpWanted())
	t.Setenv("OTEL_SDK_DISABLED", "true")
	require.False(t, otlpWanted())
}

// With an OTLP endpoint, Shutdown exports once more.
func TestOTLPExport(t *testing.T) {
	received := make(chan string, 10)
	listener := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.URL.Path + " " + string(body)
	})}
	l := newListener(t)
	go listener.Serve(l)
	defer listener.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	meter, err := NewMeter(context.Background(), testSources(), "v", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, meter.Shutdown(context.Background()))
	message := <-received
	require.True(t, strings.HasPrefix(message, "/v1/metrics "))
	require.Contains(t, message, "klink.mirror.lag")
}

func TestAPINames(t *testing.T) {
	for key, want := range map[int16]string{0: "Produce", 1: "Fetch", 15000: "CreateLinks", -1: "other", 999: "other"} {
		require.Equal(t, want, apiName(key))
	}
}

// docs/metrics.md contains the table; go test ./telemetry -rewrite updates it.
func TestDocs(t *testing.T) {
	const path, begin, end = "../docs/metrics.md", "go test ./telemetry -rewrite` -->\n", "<!-- end of metrics -->"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	table, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(head+begin+Markdown()+end+tail), 0o644))
		return
	}
	require.Equal(t, Markdown(), table, "run go test ./telemetry -rewrite and look at the difference")
}
