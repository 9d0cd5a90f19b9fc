# SPDX-License-Identifier: BSD-2-Clause

## bench: the table of speed and size (BENCH="--only remembered --seconds 10" passes flags to rcptgate bench)
## bench-steps: Go benchmarks of single steps: rules, blocklist, quota, aliases, DNS
## bench-peers: compare rcptgate with MIMEDefang, Postfix verify and Exim callouts; needs root and Debian
## (RCPTGATE_MILTER_AHEAD=PROGRAM adds milter-ahead)
.PHONY: bench bench-steps bench-peers

bench: build
	@./bin/rcptgate bench $(BENCH)

bench-steps:
	$(GO) test -run '^$$' -bench . $(wildcard ./check/rules ./check/blocklist ./check/quota/room ./check/alias ./front/dns)

bench-peers:
	bash test/install.sh
	bash bench/peers/install.sh
	$(GO) test -tags peers -run '^(TestPeers|TestMilterAhead)$$' -count=1 -timeout 60m -v ./bench/peers
