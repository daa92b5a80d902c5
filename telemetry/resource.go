package telemetry

import "go.opentelemetry.io/otel/attribute"

// Keys of OpenTelemetry's semantic conventions for resources.
const (
	serviceName    = attribute.Key("service.name")
	serviceVersion = attribute.Key("service.version")
)
