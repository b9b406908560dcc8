# Longer runs than the tests. Each is seeded or bounded, and ends by itself.
TRIALS ?= 200
SEED ?= 1
FUZZTIME ?= 60s
SOAK ?= 10m

.PHONY: help crash jobs controls model bulk batch refused memory cms conformance soak writers fuzz bench bench-proxy bench-delivery

help: ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

crash: ## SIGKILL trials, without and with a recovery token: TRIALS=200 SEED=1
	CMSTAP_CRASH_TRIALS=$(TRIALS) CMSTAP_CRASH_SEED=$(SEED) go test -count=1 -timeout 60m -run 'TestCrash(Resolved)?$$' -v .

jobs: ## the same over what the CMS does later: TRIALS=200 SEED=1
	CMSTAP_JOB_TRIALS=$(TRIALS) CMSTAP_JOB_SEED=$(SEED) go test -count=1 -timeout 60m -run 'TestCrashJobs$$' -v .

controls: ## the trials must find a cmstap that begins too late, or ends intents too early; and a full disk kills an unguarded one
	CMSTAP_CONTROL_TRIALS=20 go test -count=1 -timeout 60m -run Controls -v .

model: ## random use of the outbox, with kills and other webhooks, against a model
	go test -count=1 -timeout 60m -run 'TestModel$$' -rapid.checks=2000 -rapid.steps=120 ./outbox

bulk: ## a large commit, killed before each of its transactions
	OUTBOX_TEST_STRIDE=1 go test -count=1 -timeout 10m -run TestBulkIsKilled -v ./outbox

batch: ## 10,000 events in 100 bursts to a batched webhook, and three kills
	CMSTAP_BURSTS=100 go test -count=1 -timeout 10m -run "TestBatch$$" -v .

refused: ## 100,000 refused writes over 256 connections
	CMSTAP_REFUSED_WRITES=100000 go test -count=1 -timeout 20m -run TestRefusedWrites -v .

memory: ## idle, and with a gibibyte each way
	go test -count=1 -run TestMemory -v .

cms: ## real servers, named by CMSTAP_STRAPI and CMSTAP_WORDPRESS; cmsreal_test.go says how
	go test -count=1 -timeout 10m -run TestReal -v .

conformance: ## what nginx does where cmstap's answers are asked for
	go test -count=1 -run TestConformance -v ./proxy -target nginx

soak: ## everything at once under the race detector: SOAK=10m
	CMSTAP_SOAK=$(SOAK) go test -race -count=1 -timeout 30m -run 'TestSoak$$' -v .

writers: ## two writers of one entity, 1,000 writes each
	CMSTAP_WRITES=1000 go test -count=1 -run TestTwoWriters -v .

fuzz: ## every fuzz target for FUZZTIME=60s
	@set -e; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "== $$package $$target"; go test -run xxx -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

bench: ## the benchmarks beside the code
	go test -run xxx -bench . ./...

bench-proxy: ## beside nginx and a net/http proxy; needs wrk and nginx: BENCH='-proxies cmstap,nginx,haproxy -rounds 5'
	go run ./bench/proxy -out bench/proxy.md $(BENCH)

bench-delivery: ## from the write to the receiver, a hanging webhook, backlogs: DELIVERY='-backlogs 1000,100000,1000000'
	go run ./bench/delivery $(DELIVERY)
