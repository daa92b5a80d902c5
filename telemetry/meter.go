package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Meter collects the instruments for Prometheus and, if the OTEL_ variables ask for it, OTLP.
type Meter struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider
}

// otlpVariables are the variables that turn OTLP export on. Without them klink exports nothing
// unasked.
var otlpVariables = []string{"OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"}

// NewMeter sets up the instruments. version is klink's version. It logs failed OTLP exports to log.
func NewMeter(ctx context.Context, sources Sources, version string, log *slog.Logger) (*Meter, error) {
	m := &Meter{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(m.registry), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	options := []sdk.Option{sdk.WithReader(exporter)}
	if otlpWanted() {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("could not export metrics", "error", err) }))
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: export as the OTEL_ variables say: %w", err)
		}
		options = append(options, sdk.WithReader(reader))
	}
	// resource.Environment comes last, so OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
	res, err := resource.Merge(resource.NewSchemaless(serviceName.String("klink"), serviceVersion.String(version)), resource.Environment())
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	m.provider = sdk.NewMeterProvider(append(options, sdk.WithResource(res))...)
	if err := register(m.provider.Meter("klink"), sources); err != nil {
		return nil, errors.Join(err, m.provider.Shutdown(ctx))
	}
	return m, nil
}

func otlpWanted() bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false
	}
	for _, v := range otlpVariables {
		if os.Getenv(v) != "" {
			return true
		}
	}
	return false
}

// register creates the observable instruments, and one callback that fills them all from one
// picture.
func register(meter metric.Meter, sources Sources) error {
	observables := make([]metric.Observable, len(instruments))
	record := make([]func(o metric.Observer, v float64, opt metric.ObserveOption), len(instruments))
	for n, i := range instruments {
		var (
			made metric.Float64Observable
			err  error
		)
		if i.kind == counter {
			made, err = meter.Float64ObservableCounter(i.name, metric.WithUnit(i.unit), metric.WithDescription(i.doc))
		} else {
			made, err = meter.Float64ObservableGauge(i.name, metric.WithUnit(i.unit), metric.WithDescription(i.doc))
		}
		if err != nil {
			return fmt.Errorf("telemetry: %s: %w", i.name, err)
		}
		observables[n] = made
		record[n] = func(o metric.Observer, v float64, opt metric.ObserveOption) { o.ObserveFloat64(made, v, opt) }
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		p := sources.picture()
		var failures []error
		for n := range instruments {
			i := &instruments[n]
			i.observe(p, func(v float64, labels ...string) {
				set, err := i.attributes(labels)
				if err != nil {
					failures = append(failures, err)
					return
				}
				record[n](o, v, metric.WithAttributeSet(set))
			})
		}
		return errors.Join(failures...)
	}, observables...)
	return err
}

// Shutdown exports once more if OTLP is on, and ends the exporters.
func (m *Meter) Shutdown(ctx context.Context) error { return m.provider.Shutdown(ctx) }
