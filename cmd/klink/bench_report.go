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
		Long: `Puts what benchmarks have measured, as their --out FILE has it, into the page benchmarks.md of a directory: tables, what they say, and
plots in the directory bench beside the page. What is not between the markers of the page is written by hand and stays. The same file
gives the same page.`,
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
