# make        builds bin/stead, and bin/stead-bundle for hosts that cannot be reached
# make check  formatting, vet, staticcheck, the tests of structure: what CI and people run
# make test   check, every fuzz target for some seconds, and all tests
# make demo   the main job, from a made production host to a program that runs there
# make bench  the figures of README.md
# make oracle compares verdicts with real loaders: all programs and libraries of three hosts
#
# test, demo, bench and oracle install what they need first (see .ci/setup), and keep the hosts
# they make under $STEAD_TEST_CACHE, by default /var/cache/stead-test.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

staticcheck := honnef.co/go/tools/cmd/staticcheck@v0.8.2
programs := ./testdata/exact ./testdata/bench ./testdata/oracle

.PHONY: build setup check fuzz test demo bench oracle clean

build:
	CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -o bin/stead ./cmd/stead
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/stead-bundle ./cmd/stead-bundle

setup:
	@.ci/setup

check:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not as gofmt has it: $$unformatted"; exit 1; }
	go vet ./... $(programs)
	go run $(staticcheck) ./... $(programs)
	go test -count=1 -run "^($$(sed -n 's/^func \(Test[A-Za-z]*\).*/\1/p' cmd/stead/deps_test.go | paste -sd'|'))$$" ./cmd/stead

fuzz:
	.ci/fuzz

test: setup check fuzz
	@[ "$$(id -u)" != 0 ] || .ci/containerd >/dev/null
	go test -count=1 -timeout 40m $(programs) ./...

demo: setup build
	testdata/demo/demo

bench: setup build
	go run ./testdata/bench
	go test -run ^$$ -bench SSH -benchtime 3x ./cmd/stead

oracle: setup
	go run ./testdata/oracle -problems -packages 100

clean:
	rm -rf bin
