// Package page renders docs/benchmarks.md and its plots from a report of benchmarks.
//
// The page is written by hand, except for the text between a pair of markers. Only that comes out
// of measurements: tables, sentences about them, plots. The same report gives the same bytes, so
// that a test can tell whether the page agrees with the results.
//
// Reading order: page.go (markers, what a section has), metrics.go (what a figure means), table.go
// and verdict.go (a table and the sentence below it), plots.go (which plots a series has), then
// chart_*.go on canvas.go (how they are drawn).
package page
