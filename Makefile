# Targets for people and for .ci/run. Tools (gofumpt, staticcheck) are pinned in go.mod and need no installation.

# golangci-lint has too many dependencies for go.mod: go run builds it once, outside of klink's module.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s
# Packages whose benchmarks are on the path of every byte.
HOT      := ./protocol/... ./router/... ./proxy/... ./replicator/...
# The readers of librdkafka need cgo, so they are a module of their own.
LIBRDKAFKA := internal/clienttest/librdkafka
# Packages tested at the same time: their brokers share the machine.
TESTJOBS ?= 2
TESTTIMEOUT ?= 70m
# How long `make chaos` makes faults; KLINK_CHAOS_SEED replays a schedule.
CHAOS    ?= 10m
# The same of `make soak`, how large its topics are, and how many cases each property is checked with.
SOAK       ?= 1h
SOAKSCALE  ?= 1000000
SOAKCHECKS ?= 20000

# Where `make bench` puts its results.
BENCH_REPORT ?= docs/bench/results.json

.PHONY: all build demo kafka check test unjoined race vuln dead golangci chaos sizes soak lint fmt bench bench-quick bench-proxy bench-check bench-report haproxy microbench fuzz clean

all: lint build test

build: ## bin/klink
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/klink ./cmd/klink

demo: ## two embedded clusters, a link, a mirror; needs nothing but Go
	go run ./cmd/klink demo

kafka: ## fetch Apache Kafka for the tests; says what is missing
	@if [ "$$KLINK_SKIP_KAFKA" = 1 ]; then echo 'KLINK_SKIP_KAFKA=1: tests on real Kafka are skipped'; \
	else go run ./internal/kafkatest/provision; fi

# Packages whose tests need a real broker.
BROKERED := /internal/(e2e|kafkatest)$$
# Tests of more than four seconds, most of which they wait: `make check` leaves them to `make test`.
SLOW := \
  TestADecompressionBombInTheStateTopic TestAMirrorWaitsForTheLeaseOfAnInstanceThatIsCutOff \
  TestAnInterruptedCreationWaitsToo TestConvert TestMigrateManyGroupsAtOnce TestOffsetSyncKeepsProgress \
  TestGroupMigrate TestMirrorFailoverShowsWhatIsLeftBehind \
  TestChaos TestDialEndsWithItsClient TestRequestsLargerThanTheBudget TestStalledReaderOfManyResponses \
  TestStrangersWithUnfinishedFrames \
  TestAnotherProtocolIsTold TestAppendResults TestCleanerWasFaster TestCombinedAppends TestConnectionLostAroundAppend \
  TestForgedMembers TestJoinedBatchRefused TestKilledBehindTheFirstAppend TestMemoryStaysBoundedWithAStalledDestination \
  TestNotEnoughReplicas TestOneWriterOfAPartition TestPromoteOutlivesTheSource TestPromoteWaitsForTransactions \
  TestRefusedBatches TestRefusedUntilTheConfigsFollow TestRefusedWhileTheConfigsCannotFollow \
  TestRefusedWithTheRightConfigs TestRepairs TestSourceDownAndUpAgain TestWrongCredentials
empty :=
SLOW_RE := ^($(subst $(empty) $(empty),|,$(strip $(SLOW))))$$

# Four packages at once, whatever the number of cores: their tests wait more than they work. Those that take longest begin.
check: lint ## lint, and the tests that need neither a broker nor long; under two minutes
	@echo 'go test, without real brokers and without the slow tests'; \
	KLINK_SKIP_KAFKA=1 go test -short -p 4 -timeout 5m -skip '$(SLOW_RE)' ./replicator ./admin $$(go list ./... | grep -Ev '$(BROKERED)')

test: kafka ## everything: unit, fuzz seeds, embedded clusters, real Apache Kafka (Java 17 and Maven)
	go test -timeout $(TESTTIMEOUT) ./internal/e2e # alone: its clusters of three brokers need the whole machine
	go test -p $(TESTJOBS) -timeout $(TESTTIMEOUT) $$(go list ./... | grep -v '/internal/e2e$$')
	@if [ -f $(LIBRDKAFKA)/go.mod ]; then echo 'go test $(LIBRDKAFKA)/...'; cd $(LIBRDKAFKA) && go test -timeout $(TESTTIMEOUT) ./...; fi

chaos: kafka ## random faults for CHAOS (CHAOS=1h make chaos), then every record compared with the source
	CHAOS=$(CHAOS) go test -count=1 -v -timeout 0 -run '^TestChaos$$' ./internal/e2e/

soak: kafka ## the long tests whole: chaos for SOAK, topics of a million transactions and keys, sizes, properties; about two hours
	CHAOS=$(SOAK) go test -count=1 -v -timeout 0 -run '^TestChaos$$' ./internal/e2e/
	KLINK_SOAK=1 go test -count=1 -v -timeout 0 -run '^(TestHostileClients|TestOwnersThatBelieveWrongly|TestStartOffset|TestGroupOffsetsAtScale|TestExact.*|TestRewritingDestination)$$' ./internal/e2e/
	KLINK_SCALE=$(SOAKSCALE) go test -count=1 -v -timeout 0 -run '^TestMirrorOfMany' ./internal/e2e/
	$(MAKE) sizes
	KLINK_SKIP_KAFKA=1 go test -count=1 -timeout 0 $$(grep -rl --include='*_test.go' '"pgregory.net/rapid"' . | xargs -n1 dirname | sort -u) -rapid.checks=$(SOAKCHECKS)

unjoined: kafka ## the tests of fidelity once more, with small batches left as they are (append.join.below=0)
	KLINK_E2E_JOIN_BELOW=0 go test -count=1 -timeout $(TESTTIMEOUT) -run '^TestExact|^TestOffsets|^TestChaos$$|^TestCleaner|^TestHoles' ./internal/e2e

sizes: kafka ## what klink serve takes of memory, CPU and connections; docs/operations.md has the results
	KLINK_SIZES=1 go test -count=1 -v -timeout 30m -run '^TestSizes$$' ./internal/e2e/

# Packages in which several goroutines meet, and the pure ones that they use.
RACE := ./protocol/... ./proxy ./router ./replicator/... ./admin/... ./internal/kafkaclient ./internal/config

race: ## the tests that need no real broker, with the race detector (needs a C compiler)
	KLINK_SKIP_KAFKA=1 go test -race -short -timeout $(TESTTIMEOUT) $(RACE)

vuln: ## known vulnerabilities of the libraries that klink calls; needs the network, and says so where there is none
	@out=$$(go tool govulncheck ./cmd/klink 2>&1); code=$$?; \
	if echo "$$out" | grep -q 'govulncheck: fetching vulnerabilities:'; then \
	  echo 'vuln: NOT CHECKED: the vulnerability database cannot be reached from here'; \
	else echo "$$out"; exit $$code; fi

# What tests alone use is no part of klink: it would be tested, and not what klink runs. Exempt are checks, lists and generators
# of tables that the tests of several packages share.
DEAD_OK  := ^protocol/api.go:.* APIs$$|^protocol/batch/check.go:.* Check$$|^protocol/batch/void.go:.* Void$$|^protocol/linkapi/api.go:.* NewRequest$$|/docs?.go:.* Markdown$$|^admin/linkconfig/docs.go:.* (Markdown|code|cell)$$|^admin/needs/markdown.go:.* (Rights|Markdown)$$
DEAD_IN  := ./admin/... ./bench/... ./cmd/... ./protocol/... ./proxy/... ./replicator/... ./router/... ./internal/config/... ./internal/kafkaclient/... ./telemetry/...

dead: ## code that nothing but tests uses
	@out=$$(go tool deadcode -filter '^klink/(admin|bench|cmd|protocol|proxy|replicator|router|telemetry|internal/(config|jsonbound|kafkaclient))' ./cmd/klink && \
	  go tool staticcheck -tests=false -checks U1000 $(DEAD_IN)) || { echo "$$out"; exit 1; }; \
	out=$$(echo "$$out" | grep -Ev '$(DEAD_OK)' || true); \
	if [ -n "$$out" ]; then echo 'code that nothing but tests uses (wire it, move it into a test, or delete it):'; echo "$$out"; exit 1; fi

golangci: ## go vet, staticcheck and what else .golangci.yml has; says so where the tool cannot be fetched
	@if go run $(GOLANGCI) version >/dev/null 2>&1; then echo 'golangci-lint run'; go run $(GOLANGCI) run; \
	else echo 'golangci-lint: NOT FETCHED, so only go vet and staticcheck run'; go vet ./... && go tool staticcheck ./...; fi

lint: dead vuln golangci ## formatting, go vet, staticcheck, golangci-lint, code that only tests use, known vulnerabilities
	@out=$$(go tool gofumpt -l .); if [ -n "$$out" ]; then echo "not gofumpt-clean (make fmt):"; echo "$$out"; exit 1; fi
	@if [ -f $(LIBRDKAFKA)/go.mod ]; then echo 'go vet $(LIBRDKAFKA)/...'; cd $(LIBRDKAFKA) && go vet ./...; fi

fmt:
	go tool gofumpt -w .

bench: build kafka haproxy ## klink next to its peers on this machine, about 28 minutes; results go to BENCH_REPORT
	@mkdir -p $(dir $(BENCH_REPORT))
	@failed=; for of in "mirror --budget 16m" proxy instances "scale --rounds 1"; do \
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

bench-check: kafka ## the ratios that matter (proxied against direct and relayed, stamped against copied, klink against the raw loop; the lag with three brokers) against bench/proxy/bounds.json and bench/mirror/bounds.json
	KLINK_BENCH_CHECK=1 go test -count=1 -v -p 1 -run '^TestBounds' ./bench/proxy ./bench/mirror

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
