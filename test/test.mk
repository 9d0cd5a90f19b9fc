# The real mail servers: `make lab` prepares them, `make e2e` runs all tests that need them. They require root and Debian.
# Elsewhere the tests are skipped and listed at the end as left out (with CI=true that is a failure).

LEFT_OUT ?= $(CURDIR)/.cache/left-out
LAB := ./test/lab/... ./test/cases/... ./test/e2e/... ./test/differential/...

.PHONY: lab e2e differential left-out left-out-begin

## lab: unpack Sendmail, Postfix, Dovecot and miltertest into a private directory (takes a second once it exists)
lab:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then test/install.sh; \
	else echo "lab: real mail servers need root and Debian; their tests will be left out"; fi

## e2e: the tests with real servers, the scripted cases and the end-to-end tests
e2e: lab left-out-begin
	RCPTGATE_LEFT_OUT=$(LEFT_OUT) test/run.sh "$(LAB)" -count=1 -timeout 15m
	@$(MAKE) --no-print-directory left-out

## differential: random set-ups through real Sendmail and Postfix, without and with the gate, for MINUTES (default 30)
MINUTES ?= 30
differential: lab
	RCPTGATE_DIFFERENTIAL=$(MINUTES)m $(GO) test -count=1 -timeout 0 -v -run 'TestRandomWorlds' ./test/differential

left-out-begin:
	@mkdir -p $(dir $(LEFT_OUT)) && rm -f $(LEFT_OUT) .cache/noted

## left-out: list the tests that the last run left out, the tests that passed only when run again, and fuzzing's findings
left-out:
	@if [ -s .cache/noted ]; then echo "noted:"; sort -u .cache/noted | sed 's/^/  /'; fi
	@if [ -s $(LEFT_OUT) ]; then echo "left out:"; sort -u $(LEFT_OUT) | sed 's/^/  /'; else echo "nothing was left out"; fi
