package telemetry

import (
	"fmt"
	"strings"
)

// Markdown returns the table of metrics for docs/metrics.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| OpenTelemetry name | Prometheus name | Kind | Unit | Labels | |\n|---|---|---|---|---|---|\n")
	for _, i := range instruments {
		labels := make([]string, len(i.labels))
		for n, l := range i.labels {
			labels[n] = "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n", i.name, i.prom, i.kind, i.unit, strings.Join(labels, ", "), i.doc)
	}
	return b.String()
}
