package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"klink/bench"
	"klink/bench/proxy"
)

func (a *app) benchProxy() *cobra.Command {
	o := bench.Options{Version: buildText(), Progress: a.out}
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Measure clients behind klink, behind HAProxy, behind a byte relay, and without a proxy",
		Long: `Starts an Apache Kafka broker, and measures clients that connect to it without a proxy (direct), through "klink serve" (klink), through
HAProxy in TCP mode (haproxy, if it is installed) and through a program that only copies bytes (relay): throughput, latency, CPU and memory.
It checks every response. All subjects take turns, round by round.

Workloads have names such as "produce 64KiB x16 tls" (also fetch, and mirror fetch: from a mirror whose offsets are shifted), with "at 500/s" for
requests at a fixed rate, "idle x1000" and "stalled reader". By default a selection runs; you can name any other. With TLS, klink and HAProxy
decrypt and encrypt the traffic again; the relay passes it on as it is.`,
		Example: `  klink bench proxy --quick
  klink bench proxy --workload "fetch 1MiB x64 tls" --subject direct,klink --rounds 5`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Command == "" {
				o.Command = "klink " + strings.Join(quoted(os.Args[1:]), " ")
			}
			began := time.Now()
			series, err := proxy.Run(cmd.Context(), &o)
			if series != nil {
				fmt.Fprintf(a.out, "%d runs in %v; median (range) of the rounds, ratios within rounds\n", len(series.Runs), time.Since(began).Round(time.Second))
				for _, absent := range series.Absent {
					fmt.Fprintf(a.out, "not measured: %s: %s\n", absent.Subject, absent.Why)
				}
			}
			if err != nil || o.Out == "" {
				return err
			}
			report, err := bench.ReadReport(o.Out)
			if err != nil {
				return err
			}
			report.Put(*series)
			return report.Write(o.Out)
		},
	}
	benchFlags(cmd.Flags(), &o)
	cmd.Flags().StringVar(&o.Other, "other", "", "`PROGRAM` of another klink build to measure too (subject other)")
	return cmd
}

// quoted quotes arguments that contain spaces.
func quoted(args []string) (out []string) {
	for _, arg := range args {
		if strings.ContainsAny(arg, " \t") {
			arg = `"` + arg + `"`
		}
		out = append(out, arg)
	}
	return out
}

// benchRelay is the hidden command of the floor that `bench proxy` starts.
func (a *app) benchRelay() *cobra.Command {
	var listen, to string
	cmd := &cobra.Command{
		Use:    "relay",
		Hidden: true,
		Short:  "Copy bytes between clients and one address",
		Args:   exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usagef("--to HOST:PORT is missing")
			}
			return proxy.Relay(cmd.Context(), listen, to, func() { fmt.Fprintln(a.out, "ready") })
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`HOST:PORT` to listen on")
	cmd.Flags().StringVar(&to, "to", "", "`HOST:PORT` to connect to")
	return cmd
}
