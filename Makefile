# kamc: every target sets up its own .venv first; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint types fmt check conformance oracle bench soak load workers clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

run: $(STAMP)            ## build samples/ to out/, serve on loopback, show a registration and a call (DEMO=once ends by itself)
	$(BIN)/python tools/demo.py $(if $(filter once,$(DEMO)),--once)

test: $(STAMP)           ## all tests
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check kamc stdlib_modules tests tools

fmt: $(STAMP)
	$(BIN)/ruff check --fix kamc stdlib_modules tests tools

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

conformance: $(STAMP)    ## recorded suites in ../shared, as a ratchet
	$(BIN)/python tests/conformance/ratchet.py
	KAMC_WORKERS=3 $(BIN)/python tests/conformance/ratchet.py --suite language --suite wire

oracle: $(STAMP)         ## call flows beside the real kamailio, message by message (needs sipp and kamailio)
	$(BIN)/python tests/sipp/compare.py $(FLOWS)

bench: $(STAMP)          ## side by side with the real kamailio (needs sipp and kamailio)
	$(BIN)/python ../shared/bench/side_by_side.py --a "$(CURDIR)/$(BIN)/kamc run {cfg} -w {run} -Y {run} -P {run}/pid" \
	  --b "kamailio -f {cfg} -DD -E -w {run} -Y {run} -P {run}/pid -m 256 -M 8 -x fm -X fm" $(BENCH)

soak: $(STAMP)           ## 200,000 transactions through one server, and what they leave behind
	$(BIN)/python tools/soak.py

load: $(STAMP)           ## calls and registrations under reloads (LOAD='--kill-every 10 --reloads 0': under dying workers; needs sipp)
	$(BIN)/python tools/reload_load.py $(LOAD)

workers: $(STAMP)        ## what a message costs with 1, 2 and 4 workers (needs sipp)
	$(BIN)/python tools/worker_costs.py

clean:
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache
