# rcptgate: `make demo` demonstrates the main job, `make test` sets up and tests everything.
# Go is located first, so a missing or old version is reported clearly. These targets need no Go:
NO_GO := install uninstall clean lab left-out
ifneq ($(filter-out $(NO_GO),$(or $(MAKECMDGOALS),all)),)
override GO := $(shell GO='$(GO)' .ci/find-go)
ifeq ($(GO),)
$(error Go is missing or too old, see above)
endif
export PATH := $(dir $(GO)):$(PATH)
endif
export CGO_ENABLED ?= 0
# Root may build in another user's clone. git must then be told that the directory is safe, and Go must not call git.
VERSION := $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: all build install uninstall demo test unit scripts fuzz fuzz-brief vet lint docs clean

all: build

build: bin/rcptgate

bin/rcptgate: FORCE
	@mkdir -p bin
	$(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/rcptgate

FORCE:

## demo: the whole path on one machine, without a mail server (with ARGS=--once it ends by itself)
demo: build
	@./bin/rcptgate demo $(ARGS)

include test/test.mk
include bench/bench.mk

# The end-to-end tests; all others are unit tests.
LAB_TESTS := rcptgate/test/lab|rcptgate/test/cases|rcptgate/test/e2e|rcptgate/test/differential
FUZZTIME ?= 2s

## test: set up and test everything; lists the tests left out (with CI=true that is a failure) and those noted
test: lab left-out-begin vet scripts unit fuzz-brief
	RCPTGATE_LEFT_OUT=$(LEFT_OUT) test/run.sh "$(LAB)" -vet=off -count=1 -timeout 25m
	@$(MAKE) --no-print-directory left-out

vet:
	$(GO) vet ./...
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt-ed: $$bad"; exit 1; }

# Tests wait for a third of their time, so more test programs run than there are processors.
PROGRAMS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) * 2 )))
UNIT = $$($(GO) list ./... | grep -Ev '^($(LAB_TESTS))$$')

## scripts: the tests of this Makefile and of the scripts in test/
scripts:
	test/makefile.sh
	test/steady.sh

## unit: all tests that need no mail server; then all except the heaviest with the race detector, if there is a C compiler.
## The second pass leaves out some tests of the first on purpose, which is not a failure in CI. `vet` is a separate target
unit:
	RCPTGATE_LEFT_OUT=$(LEFT_OUT) test/run.sh "$(UNIT)" -vet=off -p $(PROGRAMS) -timeout 15m
	@if command -v gcc >/dev/null; then \
		set -x; CI= CGO_ENABLED=1 test/run.sh "$(UNIT)" -vet=off -race -short -timeout 15m; \
	else echo "race detector: gcc is missing" >>$(LEFT_OUT); [ -z "$$CI" ]; fi

## fuzz-brief: every fuzz target for a few seconds; fuzz: for ten minutes each
fuzz-brief:
	test/fuzz.sh $(FUZZTIME) explore

fuzz:
	test/fuzz.sh 10m find

## docs: regenerate the manual pages and the script reference
docs: build
	./bin/rcptgate man docs/man
	./bin/rcptgate script api >docs/script-api.md

## lint: golangci-lint with .golangci.yml, installed into .cache/bin on first use (takes minutes)
lint: .cache/bin/golangci-lint
	.cache/bin/golangci-lint run ./...

.cache/bin/golangci-lint:
	GOBIN=$(CURDIR)/.cache/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.6.2

PREFIX ?= /usr/local
UNITDIR ?= /etc/systemd/system
SHARE := $(DESTDIR)$(PREFIX)/share

## install: the results of make: the binary, manual pages, completions and systemd units (DESTDIR, PREFIX and UNITDIR)
install:
	@[ -x bin/rcptgate ] || { echo "bin/rcptgate is missing: run make first (not as root), then make install"; exit 1; }
	install -D bin/rcptgate $(DESTDIR)$(PREFIX)/bin/rcptgate
	rm -f $(DESTDIR)$(PREFIX)/sbin/rcptgate # its earlier place, which a shell may search first
	install -d $(SHARE)/man/man1 $(SHARE)/man/man5 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions \
		$(SHARE)/fish/vendor_completions.d $(DESTDIR)$(UNITDIR)
	install -m 0644 docs/man/*.1 $(SHARE)/man/man1/
	install -m 0644 docs/man/*.5 $(SHARE)/man/man5/
	bin/rcptgate completion bash >$(SHARE)/bash-completion/completions/rcptgate
	bin/rcptgate completion zsh >$(SHARE)/zsh/site-functions/_rcptgate
	bin/rcptgate completion fish >$(SHARE)/fish/vendor_completions.d/rcptgate.fish
	for unit in $(notdir $(wildcard systemd/*.service systemd/*.socket)); do \
		sed 's,/usr/bin/rcptgate,$(PREFIX)/bin/rcptgate,' systemd/$$unit >$(DESTDIR)$(UNITDIR)/$$unit; done

## uninstall: remove the installed files; configuration and state stay
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/rcptgate $(SHARE)/man/man1/rcptgate*.1 $(SHARE)/man/man5/rcptgate*.5 \
		$(SHARE)/bash-completion/completions/rcptgate $(SHARE)/zsh/site-functions/_rcptgate \
		$(SHARE)/fish/vendor_completions.d/rcptgate.fish $(DESTDIR)$(UNITDIR)/rcptgate.service $(DESTDIR)$(UNITDIR)/rcptgate-agent.service $(DESTDIR)$(UNITDIR)/rcptgate*.socket

clean:
	rm -rf bin
