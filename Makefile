# Every target is a script in .ci/ or one line. `make` prints them.
.DEFAULT_GOAL := help
.PHONY: help demo test ci bench bench-smoke soak mutants fuzz lint model

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## two processes, a database, an outage: half a minute, ends with a table
	@.ci/demo

test: ## all tests of all modules, with the race detector, on real Redis servers
	@.ci/test

ci: ## what a change must pass: lint, test, model, bench-smoke and 20,000 inputs a fuzz target
	@.ci/lint
	@.ci/test
	@.ci/model
	@.ci/bench smoke
	@FUZZTIME=20000x .ci/fuzz

bench: ## measure Tandem beside its peers, some 20 minutes: tables, bench/results (BENCH='-traces DIR')
	@.ci/bench $(BENCH)

bench-smoke: ## run each benchmark once, to see that it runs
	@.ci/bench smoke

soak: ## histories with faults against the promises (TANDEM_SOAK=10m each)
	@.ci/soak

mutants: ## take each mechanism out, and see that a test and the checker notice
	@.ci/mutants

fuzz: ## every fuzz target (FUZZTIME=30s each)
	@.ci/fuzz

lint: ## gofmt, go mod tidy, go vet and the linters of .golangci.yml
	@.ci/lint

model: ## every interleaving of two nodes on one key, and a mutant for each mechanism
	@.ci/model
