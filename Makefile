# Targets for people and for .ci/run. Tools (gofumpt, staticcheck) are pinned in go.mod and need no installation.

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
# Packages whose benchmarks are on the path of every byte.
HOT      := ./protocol/... ./router/... ./proxy/... ./replicator/...
# The readers of librdkafka need cgo, so they are a module of their own.
LIBRDKAFKA := internal/clienttest/librdkafka
# Packages tested at the same time: their brokers share the machine.
TESTJOBS ?= 2
TESTTIMEOUT ?= 20m
# How long `make chaos` makes faults; KLINK_CHAOS_SEED replays a schedule.
CHAOS    ?= 10m

# Where `make bench` puts its results.
BENCH_REPORT ?= docs/bench/results.json

.PHONY: all build demo kafka test chaos sizes lint fmt bench bench-quick bench-proxy bench-check bench-report haproxy microbench fuzz clean

all: lint build test

build: ## bin/klink
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/klink ./cmd/klink

demo: ## two embedded clusters, a link, a mirror; needs nothing but Go
	go run ./cmd/klink demo

kafka: ## fetch Apache Kafka for the tests; says what is missing
	@if [ "$$KLINK_SKIP_KAFKA" = 1 ]; then echo 'KLINK_SKIP_KAFKA=1: tests on real Kafka are skipped'; \
	else go run ./internal/kafkatest/provision; fi

test: kafka ## everything: unit, fuzz seeds, embedded clusters, real Apache Kafka (Java 17 and Maven)
	go test -p $(TESTJOBS) -timeout $(TESTTIMEOUT) ./internal/e2e ./... # what takes longest begins first
	@if [ -f $(LIBRDKAFKA)/go.mod ]; then echo 'go test $(LIBRDKAFKA)/...'; cd $(LIBRDKAFKA) && go test -timeout $(TESTTIMEOUT) ./...; fi

chaos: kafka ## random faults for CHAOS (CHAOS=1h make chaos), then every record compared with the source
	CHAOS=$(CHAOS) go test -count=1 -v -timeout 0 -run '^TestChaos$$' ./internal/e2e/

sizes: kafka ## what klink serve takes of memory, CPU and connections; docs/operations.md has the results
	KLINK_SIZES=1 go test -count=1 -v -timeout 30m -run '^TestSizes$$' ./internal/e2e/

lint: ## formatting, go vet, staticcheck
	@out=$$(go tool gofumpt -l .); if [ -n "$$out" ]; then echo "not gofumpt-clean (make fmt):"; echo "$$out"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	@if [ -f $(LIBRDKAFKA)/go.mod ]; then echo 'go vet $(LIBRDKAFKA)/...'; cd $(LIBRDKAFKA) && go vet ./...; fi

fmt:
	go tool gofumpt -w .

bench: build kafka haproxy ## klink next to its peers on this machine, about 24 minutes; results go to BENCH_REPORT
	@mkdir -p $(dir $(BENCH_REPORT))
	@failed=; for of in "mirror --budget 9m" proxy instances "scale --rounds 1"; do \
	  echo "klink bench $$of"; bin/klink bench $$of --out $(BENCH_REPORT) || failed="$$failed [$$of]"; \
	done; [ -z "$$failed" ] || { echo "not all of it counts:$$failed"; exit 1; }

bench-quick: build kafka haproxy ## less of the same, under four minutes, for development; the results are only shown
	bin/klink bench mirror --quick
	bin/klink bench proxy --quick

microbench: ## Go benchmarks of the hot path
	go test -run '^$$' -bench . -benchmem $(HOT)

bench-proxy: build kafka haproxy ## klink, HAProxy and a byte relay before a real broker, and no proxy; QUICK=1 for less, REPORT=FILE keeps the results
	bin/klink bench proxy $(if $(QUICK),--quick) $(if $(REPORT),--out $(REPORT))

haproxy: ## HAProxy for bench-proxy, where it can be installed; without it the report says that it is absent
	@command -v haproxy >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends haproxy >/dev/null || \
	  { apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends haproxy >/dev/null; }; }; } || \
	  echo 'no HAProxy (apt-get install haproxy): it will not be measured'

bench-check: kafka ## the ratios that matter (proxied against direct and relayed, stamped against copied, klink against the raw loop) against bench/bounds.json and bench/mirror/bounds.json
	KLINK_BENCH_CHECK=1 go test -count=1 -v -p 1 -run '^TestBounds' ./bench ./bench/mirror

bench-report: ## docs/benchmarks.md and its plots, from docs/bench/results.json
	go run ./cmd/klink bench report --in docs/bench/results.json --out docs

fuzz: ## each fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

clean:
	rm -rf bin
