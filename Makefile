# rcptgate: `make demo` shows the main job at work, `make test` sets up and proves everything.
GO ?= go
export CGO_ENABLED ?= 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: all build install demo test unit fuzz fuzz-brief vet lint docs clean

all: build

build: bin/rcptgate

bin/rcptgate: FORCE
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/rcptgate

FORCE:

## demo: the whole path on one machine, no mail server needed (ARGS=--once ends by itself)
demo: build
	@./bin/rcptgate demo $(ARGS)

include test/test.mk
include bench/bench.mk

# What the end-to-end tests have for themselves; unit tests are all the rest.
LAB_TESTS := rcptgate/test/lab|rcptgate/test/cases|rcptgate/test/e2e
FUZZTIME ?= 3s

## test: set up and prove everything; lists what had to be left out (with CI=true leaving out fails)
test: lab left-out-begin vet unit fuzz-brief
	RCPTGATE_LEFT_OUT=$(LEFT_OUT) $(GO) test -count=1 -timeout 15m ./test/lab/... ./test/cases/... ./test/e2e/...
	@$(MAKE) --no-print-directory left-out

vet:
	$(GO) vet ./...
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt-ed: $$bad"; exit 1; }

UNIT = $$($(GO) list ./... | grep -Ev '^($(LAB_TESTS))$$')

## unit: all tests that need no mail server; then all but the heaviest with the race detector, where a C compiler is; the second
## pass leaves things out on purpose, which is no failure in CI: the first has them
unit:
	RCPTGATE_LEFT_OUT=$(LEFT_OUT) $(GO) test -timeout 15m $(UNIT)
	@if command -v gcc >/dev/null; then \
		set -x; CI= CGO_ENABLED=1 $(GO) test -race -short -timeout 15m $(UNIT); \
	else echo "race detector: gcc is missing" >>$(LEFT_OUT); [ -z "$$CI" ]; fi

## fuzz-brief: every fuzz target for seconds; fuzz: for ten minutes each
fuzz-brief:
	test/fuzz.sh $(FUZZTIME)

fuzz:
	test/fuzz.sh 10m

## docs: make the manual pages again
docs: build
	./bin/rcptgate man docs/man

## lint: golangci-lint with .golangci.yml, installed into .cache/bin on first use (takes minutes)
lint: .cache/bin/golangci-lint
	.cache/bin/golangci-lint run ./...

.cache/bin/golangci-lint:
	GOBIN=$(CURDIR)/.cache/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.6.2

PREFIX ?= /usr/local

## install: binary, manual pages and systemd unit (DESTDIR and PREFIX as usual)
install: build
	install -D bin/rcptgate $(DESTDIR)$(PREFIX)/sbin/rcptgate
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)/etc/systemd/system
	install -m 0644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 0644 docs/man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	sed 's,/usr/sbin/rcptgate,$(PREFIX)/sbin/rcptgate,' systemd/rcptgate.service >$(DESTDIR)/etc/systemd/system/rcptgate.service

clean:
	rm -rf bin
