# The real mail servers: `make lab` prepares them, `make e2e` runs everything that needs them. Root and Debian are required;
# elsewhere the tests skip, and the list at the end says what was left out (with CI=true leaving out is a failure).

LEFT_OUT ?= $(CURDIR)/.cache/left-out
LAB := ./test/lab/... ./test/cases/... ./test/e2e/... ./test/differential/...

.PHONY: lab e2e differential left-out left-out-begin

## lab: unpack Sendmail, Postfix, Dovecot and miltertest into a private directory (a second once it is there)
lab:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then test/install.sh; \
	else echo "lab: real mail servers need root and Debian; their tests will be left out"; fi

## e2e: the real servers, the scripted cases and the end-to-end tests
e2e: lab left-out-begin
	RCPTGATE_LEFT_OUT=$(LEFT_OUT) test/run.sh "$(LAB)" -count=1 -timeout 15m
	@$(MAKE) --no-print-directory left-out

## differential: random worlds through real Sendmail and Postfix, without and with the gate, for MINUTES (default 30)
MINUTES ?= 30
differential: lab
	RCPTGATE_DIFFERENTIAL=$(MINUTES)m $(GO) test -count=1 -timeout 0 -v -run 'TestRandomWorlds' ./test/differential

left-out-begin:
	@mkdir -p $(dir $(LEFT_OUT)) && rm -f $(LEFT_OUT) .cache/noted

## left-out: list what the last run has left out, which tests passed only when run again, and what fuzzing found
left-out:
	@if [ -s .cache/noted ]; then echo "noted:"; sort -u .cache/noted | sed 's/^/  /'; fi
	@if [ -s $(LEFT_OUT) ]; then echo "left out:"; sort -u $(LEFT_OUT) | sed 's/^/  /'; else echo "nothing was left out"; fi
