# What a person types; the work is in scripts/. Run `make` for the list.

PROFILE ?= dev
NODES ?= 3
export PROFILE PG_CONFIG OUT

.PHONY: help deps build cluster cluster-stop demo demo-stop test test-long bench lint package pg18 clean

help:
	@echo 'make demo                 a cluster of three nodes with a small shop; demo-stop ends it'
	@echo 'make test                 all tests, on real servers; TEST=name for some of them'
	@echo 'make cluster DIR=/d       a coordinator and NODES=3 nodes on PORT=9700 and up'
	@echo 'make cluster-stop DIR=/d  ends it'
	@echo 'make build                the extension, PROFILE=dev or release'
	@echo 'make package OUT=/d       the files to install, laid out below OUT'
	@echo 'make lint | bench | test-long | deps | pg18 | clean'
	@echo 'PG_CONFIG=/path/pg_config chooses the Postgres, else the newest of 15-18 found'

deps:
	@scripts/deps

build:
	@scripts/build

cluster:
	@test -n '$(DIR)' || { echo 'say where: make cluster DIR=/some/dir' >&2; exit 2; }
	@PROFILE=release scripts/build >&2
	@scripts/cluster start '$(DIR)' '$(NODES)' '$(or $(PORT),9700)'

cluster-stop:
	@scripts/cluster stop '$(DIR)'

demo:
	@PROFILE=release scripts/build
	@PORT='$(PORT)' scripts/demo

demo-stop:
	@scripts/demo stop

test:
	@scripts/test $(TEST)

test-long:
	@LONG=1 scripts/test $(TEST)

bench:
	@scripts/bench

lint:
	@scripts/lint

package:
	@scripts/package

# A Postgres 18 for testing where the distribution has none.
pg18:
	@scripts/pg18

clean:
	@scripts/clean
