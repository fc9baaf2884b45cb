# Two commands do everything: `make up` and `make test`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := $(CURDIR)/.bin
export GOFLAGS := -buildvcs=false

.PHONY: help
help: ## list all commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 12

.PHONY: up
up: ## start the whole system, and print its addresses (WITH=overlay,overlay: see docs/overlays.md)
	@scripts/up.sh
	@scripts/welcome.sh

.PHONY: broker
broker: ## start only broker and database, to run services by hand
	@scripts/up.sh rabbitmq postgres
	@source scripts/lib.sh; compose up --no-build databases topology

.PHONY: down
down: ## remove containers and networks, keep the data
	@source scripts/lib.sh; compose down --remove-orphans

.PHONY: clean
clean: ## remove containers, networks, volumes, built images and what interrupted test runs left
	@scripts/clean.sh

.PHONY: logs
logs: ## follow the logs of all services
	@source scripts/lib.sh; compose logs --follow --tail 100

.PHONY: test
test: ## run every test, with the race detector, against real servers
	@scripts/test.sh

.PHONY: lint
lint: ## check formatting, vet, linters, module versions, known vulnerabilities
	@scripts/lint.sh

.PHONY: fuzz
fuzz: ## fuzz everything that decodes messages (FUZZTIME=100000x inputs for each target)
	@scripts/fuzz.sh

.PHONY: bench
bench: ## compare pkg/messaging with plain amqp091-go, and write bench/RESULTS.md (about 8 min)
	@scripts/bench.sh -out .

.PHONY: chaos
chaos: ## inject faults into a running system and check every order (SEED=n DURATION=10m RATE=30 ONLY=regexp WITH=cluster; REPORT=docs keeps the report)
	@scripts/chaos.sh

.PHONY: tidy
tidy: ## tidy every module
	@go work sync
	@for dir in $$(go list -f '{{.Dir}}' -m) pkg/watermill tools/dev; do (cd "$$dir" && GOWORK=off go mod tidy); done
