# The commands of this repository. `make` alone lists them.
#
# The repository holds several modules. go.work joins those that users build
# against. Two stand outside: internal/conformance, whose test vectors ask for a
# newer Go than users need, and internal/faults, whose proxy would bring its
# dependencies into theirs. `./...` in the root reaches the root module only, so
# most targets visit every module.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help

GO        ?= go
TESTFLAGS ?=#    more flags for go test, as in TESTFLAGS=-v
COUNT     ?= 1#  how often each benchmark runs
BENCH     ?= .#  which benchmarks
BENCHTIME ?= 1s
FUZZTIME  ?= 20s
CHECKS    ?= 3000# of each rapid property, instead of 100
STEPS     ?= 60#  of each rapid state machine, on average, instead of 30
SEEDS     ?= 100# of the engine's long simulated lives, instead of 40
DETERMINISM ?= 100000# steps of the engine that are compared byte for byte, instead of 6,000
COMPARE   ?=#    flags for the comparison with other queues
VERSION   ?= v0.0.0-check

# The workspace's modules, as paths that start with "./"; the root is ".".
WORKSPACE := $(shell sed -n 's/^\t\(\.[^ ]*\).*/\1/p' go.work)
OUTSIDE   := ./internal/conformance ./internal/faults
PATTERNS  := $(WORKSPACE:%=%/...)

# $(call in-each,COMMAND) runs a command in the folder of every module, outside
# the workspace, as somebody does who has only that module.
in-each = $(call in-these,$(WORKSPACE) $(OUTSIDE),$(1))
in-these = set -e; for dir in $(1); do (cd $$dir && export GOWORK=off && $(2)) || { echo "failed in $$dir" >&2; exit 1; }; done

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## every test of every module, but for test-faults; needs only Go
	$(GO) test $(TESTFLAGS) $(PATTERNS)
	cd internal/conformance && GOWORK=off $(GO) test $(TESTFLAGS) ./...

# One reads real prompts for minutes there, and races with nobody; the other
# searches them in 60 MB, the third sends them through programs that are not built
# to race.
RACE_SKIP := ^(TestPropertiesOnRealPrompts|TestRealPromptsSealed|TestDeploymentTiers)$$

.PHONY: race
race: ## the same, properties less deep, under the race detector; needs a C compiler
	$(GO) test -race -short -timeout 20m -skip '$(RACE_SKIP)' $(TESTFLAGS) $(PATTERNS)

.PHONY: test-llm
test-llm: ## sealed jobs on a real Ollama, in one process and in several, built if it is missing; needs a C++ compiler and ../shared
	cd worker/openai && CONSIGN_TEST_OLLAMA=1 $(GO) test -count=1 -run '^TestRealOllama' $(TESTFLAGS) .
	cd examples && CONSIGN_TEST_OLLAMA=1 $(GO) test -count=1 -run '^TestRealOllama' -v $(TESTFLAGS) .

.PHONY: test-faults
test-faults: ## whole queues killed, paused, cut off and filled up; CONSIGN_FAULTS=full for all of it; needs root and PostgreSQL
	scripts/faults.sh $(TESTFLAGS)

.PHONY: spec
spec: ## the model of leases and fences, in every order; needs Spin and a C compiler
	scripts/spec.sh

.PHONY: mutants
mutants: ## the tests of crypto/seal against that package with each of its checks taken out
	cd crypto/seal && CONSIGN_MUTANTS=1 $(GO) test -count=1 -timeout 30m -run '^TestSealMutants$$' -v . | grep -v '^=== '

.PHONY: rapid
rapid: ## the engine's properties at depth: CHECKS, STEPS, SEEDS, DETERMINISM
	CONSIGN_SEEDS=$(SEEDS) RAPID_CHECKS=$(CHECKS) RAPID_STEPS=$(STEPS) scripts/rapid.sh $(TESTFLAGS)
	CONSIGN_DETERMINISM=$(DETERMINISM) $(GO) test -count=1 -timeout 15m -run '^TestEngineIsDeterministic$$' $(TESTFLAGS) .

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Go benchmarks: BENCH, BENCHTIME, COUNT
	$(GO) test -run '^$$' -bench '$(strip $(BENCH))' -benchtime $(strip $(BENCHTIME)) -count $(strip $(COUNT)) -benchmem . ./client ./crypto/seal ./store/memdb ./store/sqlite ./transport/longpoll ./transport/websocket ./bench/...

.PHONY: compare
compare: ## Consign beside River, asynq and backlite, as tables; COMPARE=-help lists the flags; needs PostgreSQL and Redis
	cd bench && $(GO) run . $(COMPARE)

.PHONY: quickstart
quickstart: ## the example of the README: one program, a queue and its workers
	$(GO) run ./examples/quickstart

.PHONY: vet
vet: ## go vet of every module
	$(GO) vet $(PATTERNS)
	@$(call in-these,$(OUTSIDE),$(GO) vet ./...)

.PHONY: staticcheck
staticcheck: ## staticcheck of every module; see .ci/run for its version
	staticcheck $(PATTERNS)
	@$(call in-these,$(OUTSIDE),staticcheck ./...)

.PHONY: lint
lint: staticcheck ## staticcheck, and golangci-lint if it is installed
	@if command -v golangci-lint >/dev/null; then $(call in-each,{ [ -z "$$($(GO) list ./... 2>/dev/null)" ] || golangci-lint run --config $(CURDIR)/.golangci.yml ./...; }); else echo "golangci-lint is not installed: only staticcheck ran"; fi

.PHONY: fmt-check
fmt-check: ## gofmt has nothing to change
	@files=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); if [ -n "$$files" ]; then echo "gofmt -w these:"; echo "$$files"; exit 1; fi

.PHONY: tidy-check
tidy-check: ## go mod tidy has nothing to change, in any module
	@$(call in-each,$(GO) mod tidy -diff)

.PHONY: release-check
release-check: ## rehearse the release of VERSION in a temporary folder
	scripts/release.sh $(VERSION)

.PHONY: release
release: ## tag VERSION, root and nested modules, after the rehearsal; pushes nothing
	scripts/release.sh --tag $(VERSION)
