package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"klink/internal/config"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve --destination HOST:PORT --listen HOST:PORT",
		Short: "Run klink in front of a destination cluster",
		Long: `Runs proxy, link administration and replicator in front of a destination cluster, until SIGTERM or SIGINT: then no new
connections are accepted, requests and appends in flight finish, and klink exits with 0. A second signal ends it at once.

Each flag can also be given as an environment variable (in brackets) or as a key of the --config file. Flags win over
the environment, the environment over the file.`,
		Example: `  klink serve --destination broker1:9092,broker2:9092 --listen 0.0.0.0:19092 --advertise klink.example --http :9090
  klink serve --config klink.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadOS(cmd.Flags())
			if err != nil {
				return err
			}
			tuneGC()
			s, err := assemble(cmd.Context(), cfg, newLogger(cfg, a.err))
			if err != nil {
				return err
			}
			for _, warning := range s.warnings {
				s.log.Warn(warning)
			}
			return s.Run(cmd.Context(), func() { s.log.Info("ready: clients can connect", "address", s.proxy.Addr().String()) })
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().SortFlags = false
	return cmd
}

// newLogger returns a logger that writes to w as the settings say.
func newLogger(cfg *config.Serve, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
