# SPDX-License-Identifier: BSD-2-Clause

## bench: the table of speed and size (BENCH="--only remembered --seconds 10" for further flags of rcptgate bench)
## bench-steps: what single steps take, by Go's benchmarks: rules, blocklist, quota, aliases, DNS
## bench-peers: MIMEDefang, Postfix verify and Exim callouts measured beside rcptgate; needs root and Debian (RCPTGATE_MILTER_AHEAD=PROGRAM: milter-ahead too)
.PHONY: bench bench-steps bench-peers

bench: build
	@./bin/rcptgate bench $(BENCH)

bench-steps:
	$(GO) test -run '^$$' -bench . $(wildcard ./check/rules ./check/blocklist ./check/quota/room ./check/alias ./front/dns)

bench-peers:
	bash test/install.sh
	bash bench/peers/install.sh
	$(GO) test -tags peers -run '^(TestPeers|TestMilterAhead)$$' -count=1 -timeout 60m -v ./bench/peers
