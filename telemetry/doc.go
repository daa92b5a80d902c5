// Package telemetry exposes klink's metrics: OpenTelemetry instruments that read the counters of
// proxy, router and replicator, and the HTTP server with /metrics, /healthz and /readyz. Every
// instrument is observable: it costs nothing until a collection.
//
// Reading order: instruments.go (the table of all metrics, and where each figure comes from),
// meter.go and resource.go (Prometheus, and OTLP if the OTEL_ variables ask for it), server.go and
// limit.go (HTTP, with a bound on connections), docs.go (the table of docs/metrics.md).
//
// The one lock, limit.mu, is a leaf. The package may import what it shows: admin/model, protocol,
// proxy and replicator. Only cmd imports it.
package telemetry
