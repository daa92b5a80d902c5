package main

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// show prints rows under a header for people, or value as JSON for programs.
func (a *app) show(value any, header []string, rows [][]any) error {
	if a.output == "json" {
		return a.json(value)
	}
	a.table(header, rows)
	return nil
}

func (a *app) json(value any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// paragraph is the text of a cell that may have several lines.
type paragraph string

func (a *app) table(header []string, rows [][]any) {
	w := table.NewWriter()
	w.SetOutputMirror(a.out)
	style := table.StyleDefault
	style.Options.DrawBorder = false
	style.Format.Header = text.FormatDefault
	w.SetStyle(style)
	w.SuppressTrailingSpaces()
	titles := make(table.Row, len(header))
	for i, h := range header {
		titles[i] = oneLine(h)
	}
	w.AppendHeader(titles)
	for _, r := range rows {
		row := make(table.Row, len(r))
		for i, cell := range r {
			switch text := cell.(type) {
			case string:
				row[i] = oneLine(text)
			case paragraph:
				row[i] = string(appendPrintable(nil, []byte(text)))
			default:
				row[i] = cell
			}
		}
		w.AppendRow(row)
	}
	w.Render()
}

// timeText formats a time in Unix milliseconds; nil if it is unknown.
func timeText(ms int64) *string {
	if ms <= 0 {
		return nil
	}
	s := time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
	return &s
}

// orDash returns a dash for a value that is unknown or empty.
func orDash(s *string) string {
	if s == nil || *s == "" {
		return "-"
	}
	return *s
}

// offset formats an offset or a number of offsets; negative = unknown.
func offset(n int64) string {
	if n < 0 {
		return "unknown"
	}
	return strconv.FormatInt(n, 10)
}
