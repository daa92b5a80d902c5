package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"klink/bench"
	"klink/bench/page"
)

func (a *app) benchReport() *cobra.Command {
	var in, out string
	cmd := &cobra.Command{
		Use:   "report [--in FILE] [--out DIRECTORY]",
		Short: "Render benchmarks.md and its plots from a report file",
		Long: `Writes the results of benchmarks, from their --out FILE, into the page benchmarks.md of a directory: tables, conclusions, and plots in
the directory bench next to the page. Text outside the markers of the page is written by hand and does not change. The same file
always gives the same page.`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			report, err := bench.ReadReport(in)
			if err != nil {
				return err
			}
			changed, err := page.Update(out, report)
			for _, name := range changed {
				fmt.Fprintf(a.out, "Changed %s.\n", filepath.Join(out, name))
			}
			if err == nil && len(changed) == 0 {
				fmt.Fprintln(a.out, "Nothing has changed.")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&in, "in", "docs/bench/results.json", "report `FILE`")
	cmd.Flags().StringVar(&out, "out", "docs", "`DIRECTORY` of benchmarks.md")
	return cmd
}
