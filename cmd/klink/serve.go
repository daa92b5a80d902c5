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
		Long: `Runs the proxy, link administration and the replicator in front of a destination cluster, until SIGTERM or SIGINT. Then klink
accepts no new connections, finishes requests and appends in flight, and exits with code 0. A second signal ends it at once.

You can also set each flag with an environment variable (in brackets) or as a key in the --config file. Flags override the
environment, and the environment overrides the file.`,
		Example: `  klink serve --destination broker1:9092,broker2:9092 --listen 0.0.0.0:19092 --advertise klink.example --http :9090
  klink serve --config klink.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadOS(cmd.Flags())
			if err != nil {
				return err
			}
			tuneGC()
			log := newLogger(cfg, a.err)
			slog.SetDefault(log) // certificates that cannot be read again are logged there
			s, err := assemble(cmd.Context(), cfg, log)
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
