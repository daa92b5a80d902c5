package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// serve waits for a destination that is down at the start; /readyz says so.
func TestServeWaitsForTheDestination(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())

	s := newServer(t, "--destination", fmt.Sprintf("127.0.0.1:%d", port), "--http", "127.0.0.1:0")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	w := &world{t: t}
	var url string
	w.eventually("the reason is known", func() bool {
		if p := s.problem.Load(); p == nil {
			return false
		}
		url = "http://" + s.http.Addr()
		return true
	})
	code, text := get(t, url+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, "not ready: klink does not know the destination's brokers yet: ")
	require.Contains(t, text, itoa(port))
	code, _ = get(t, url+"/healthz")
	require.Equal(t, http.StatusOK, code)

	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port))
	require.NoError(t, err)
	defer cluster.Close()
	<-ready
	code, text = get(t, url+"/readyz")
	require.Equal(t, http.StatusOK, code, text)
	stop()
	require.NoError(t, <-done)
}

// /metrics counts connections, requests, a refused produce, a mirror.
func TestServeMetrics(t *testing.T) {
	w := newWorld(t, "--http", "127.0.0.1:0")
	w.mirror("orders", "one", "two")
	w.refused("mine", "topic", "produce", "orders")
	code, text := get(t, "http://"+w.server.http.Addr()+"/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, want := range []string{
		`klink_link_state{error="",link="east",state="ACTIVE"} 1`,
		`klink_mirror_state{error="",link="east",state="ACTIVE",topic="orders"} 1`,
		`klink_proxy_requests_total{api="CreateMirrors",version="0"} 1`,
		`klink_task_partitions{link="east",state="running"} 1`,
		`klink_mirror_lag_offsets{link="east",partition="0",topic="orders"} 0`,
		`klink_link_append_records_total{link="east"} 2`,
		`klink_replicator_memory_bytes{kind="budget"} 2.68435456e+08`,
	} {
		require.True(t, strings.Contains(text, "\n"+want), "%s is not in\n%s", want, text)
	}
	require.Regexp(t, `\nklink_proxy_produce_rejected_total [1-9]`, text)
	require.Regexp(t, `\nklink_proxy_io_bytes_total\{direction="received",peer="client"\} [1-9]`, text)
}

// When klink is told to stop, it serves connected clients to the end and accepts no new ones.
func TestServeDrains(t *testing.T) {
	destination, err := embeddedCluster("destination-id")
	require.NoError(t, err)
	defer destination.Close()
	s := newServer(t, "--destination", destination.ListenAddrs()[0])
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	<-ready
	address := s.proxy.Addr().String()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address))
	require.NoError(t, err)
	defer cl.Close()
	require.NoError(t, cl.Ping(context.Background()))
	stop()
	require.NoError(t, <-done)
	_, err = net.DialTimeout("tcp", address, time.Second)
	require.Error(t, err)
}

func TestServeErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	w := &world{t: t, dir: dir}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", taken.Addr().String()}, "listen on " + taken.Addr().String()},
		{[]string{"--listen", "127.0.0.1:0", "--http", taken.Addr().String()}, "listen for metrics and health"},
		{[]string{"--tls-cert-file", file("c", "x"), "--tls-key-file", file("k", "x")}, "tls-cert-file and tls-key-file: "},
		{[]string{"--secrets-key-file", file("s", "short")}, "secrets-key-file: "},
		{[]string{"--destination-config", file("d", "security.protocol=SSL\nssl.truststore.type=BCFKS\n")}, "destination-config: ssl.truststore.type"},
		{[]string{"--config", filepath.Join(dir, "missing.yaml")}, "missing.yaml"},
	} {
		require.Contains(t, w.refused("", append([]string{"serve", "--destination", "127.0.0.1:1", "--log-level", "error"}, c.args...)...), c.want)
	}
}
