package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServerConfig says what a Server serves.
type ServerConfig struct {
	Addr  string // host:port to listen on; port 0 = any free one
	Meter *Meter
	// Ready returns why klink cannot serve clients yet, nil if it can. It is called for each
	// /readyz.
	Ready  func() error
	PProf  bool // serve /debug/pprof/
	Logger *slog.Logger
}

// The time that a client has to send a request, to read the response, and to send the next request.
// A profile takes as long as the client asks, so /debug/pprof/ has a longer time.
const (
	headTime    = 5 * time.Second
	requestTime = 10 * time.Second
	answerTime  = 30 * time.Second
	profileTime = 10 * time.Minute
	idleTime    = 2 * time.Minute
	// maxScrapes bounds the responses of /metrics that are made at one time.
	maxScrapes = 4
)

// within limits the time that a handler has to write its response.
func within(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// http.Server.WriteTimeout would be the same for all handlers, and pprof refuses longer
		// profiles than that.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
		h.ServeHTTP(w, r)
	})
}

// Server serves /metrics, /healthz (200 while the process runs) and /readyz (503 with the reason
// until klink can serve clients).
type Server struct {
	listener net.Listener
	http     http.Server
	limit    limit
	done     chan struct{}
}

// Serve listens on cfg.Addr, and serves in the background until Shutdown.
func Serve(cfg ServerConfig) (*Server, error) {
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics and health: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Meter.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := cfg.Ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	all := http.NewServeMux()
	all.Handle("/", within(answerTime, mux))
	if cfg.PProf {
		profiles := http.NewServeMux()
		profiles.HandleFunc("/debug/pprof/", pprof.Index)
		profiles.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
		profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
		all.Handle("/debug/pprof/", within(profileTime, profiles))
	}
	s := &Server{listener: listener, done: make(chan struct{}), limit: limit{most: maxConnections}, http: http.Server{
		Handler: all, ReadHeaderTimeout: headTime, ReadTimeout: requestTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}}
	s.http.ConnState = s.limit.state
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("metrics and health are no longer served", "error", err)
		}
	}()
	return s, nil
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Shutdown ends the server. Requests in flight may finish until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}
