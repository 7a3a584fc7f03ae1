# tollgated: `make run` shows it, `make test` tests it. Everything these need is installed by them, once.
# Tests and the demo use the dev profile (dependencies optimised, our code quick to build and with overflow checks);
# what is measured (`bench`, `size`) is the release profile, which is what a router gets.

CACHE := $(or $(TOLLGATED_CACHE),$(HOME)/.cache/tollgated)
PYTHON := PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 $(CACHE)/venv/bin/python
# Most tests wait for a kernel timer or a mint most of the time, so there are more workers than cores.
JOBS ?= $(shell expr $$(nproc) + 8)
TESTS ?= tests/system
# Without a TARGET the emulated processors are all of them, the rest is done for this machine's kind.
SMOKE = $(if $(ASKED),$(TARGET),$(TARGETS))
ASKED := $(TARGET)
TARGET ?= x86_64
TARGETS := $(shell awk '!/^\#/ { print $$1 }' cross/targets)
# A short name is enough: mipsel for mipsel_24kc.
override TARGET := $(or $(firstword $(filter $(TARGET) $(TARGET)_%,$(TARGETS))),$(TARGET))

export TOLLGATED_BIN ?= $(CURDIR)/target/debug/tollgated

.PHONY: help setup setup-run setup-build setup-lab setup-lightning build run demo test test-again test-unit test-system test-peers lint fuzz manual bench setup-cross cross cross-all smoke boot memory crash size ipk apk source release clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: setup-run setup-lightning ## Install what building and testing need (the other targets do it themselves)

setup-run:
	@sh tests/lab/setup.sh all

setup-build:
	@sh tests/lab/setup.sh build

setup-lab:
	@sh tests/lab/setup.sh lab

setup-lightning:
	@sh tests/lab/setup.sh lightning

build: setup-build ## Build the daemon (target/debug/tollgated)
	@echo '  building the daemon'; cargo build --locked

run: setup-run build ## Show it: a guest pays and gets online, then the portal stays open for you (Ctrl-C ends it)
	@$(PYTHON) -m lab.run

demo: setup-run build ## The same tour once, without staying up
	@$(PYTHON) -m lab.run --once

test: setup lint build ## Everything: lint, unit, integration and system tests
	@# Side by side, because both mostly wait; what cargo says is shown when it has ended.
	@rm -rf target/failed && mkdir -p target/failed
	@echo '  building the tests'; cargo test --locked --no-run
	@touch target/failed/system; $(MAKE) --no-print-directory test-unit >target/failed/unit.log 2>&1 & unit=$$!; \
	$(MAKE) --no-print-directory test-system; system=$$?; \
	wait $$unit; unit=$$?; cat target/failed/unit.log; \
	printf 'unit %s\nsystem %s\n' $$unit $$system >target/failed/status; exit $$((unit + system))

test-again: ## What failed in the last `make test`, each test once more and alone (.ci/run; says so loudly)
	@$(PYTHON) -m lab.again

test-unit: setup-run ## Cargo's unit and integration tests, with a real mint beside them
	@RUST_TEST_THREADS=6 $(PYTHON) -m lab.with_mint -- cargo test --locked --quiet --no-fail-fast

test-system: setup build ## The real daemon among real peers in network namespaces (TESTS=path, JOBS=n)
	@cargo build --locked --example lightning
	@$(PYTHON) -m pytest -c tests/pytest.ini --rootdir . -n $(JOBS) $(TESTS)

test-peers: setup-run build ## The money tests again, at a mint by others: cdk-mintd, whose first build takes many minutes
	@sh tests/lab/setup.sh peers
	@TOLLGATED_MINT=cdk-mintd $(PYTHON) -m pytest -c tests/pytest.ini --rootdir . -n $(JOBS) -k "not rotated" $(TESTS)/test_takings.py $(TESTS)/test_takings_mints.py $(TESTS)/test_wallet.py
	@$(PYTHON) -m pytest -c tests/pytest.ini --rootdir . $(TESTS)/test_login_browser.py

lint: setup-build ## Formatting, clippy with warnings denied, order of the rooms, licences and sources, papers, lines of Python
	@cargo fmt --check
	@cargo clippy --locked --all-targets -- -D warnings
	@python3 tests/lab/lint_rooms.py src
	@python3 tests/lab/lint_crates.py
	@python3 tests/lab/lint_papers.py
	@python3 tests/lab/lint_lines.py

fuzz: setup-build ## Every parser against inputs that nobody meant, for SECONDS=60 in all (tests/fuzz)
	@FUZZ_SECONDS=$(or $(SECONDS),60) cargo test --locked --quiet --lib fuzz::no_input -- --nocapture

manual: setup-build ## Put the table of commands in line with the list of them, and make target/tollgated.8
	@cargo build --locked --quiet --example manual
	@target/debug/examples/manual page >target/tollgated.8
	@target/debug/examples/manual table openwrt/README.md

bench: setup-run ## Speed and memory of the release build against their budgets, as a table (PARTS="cards usage", say)
	@cargo build --locked --release --no-default-features
	@cargo build --locked --example packets
	@TOLLGATED_BIN=$(CURDIR)/target/release/tollgated $(PYTHON) -m lab.bench $(PARTS)

setup-cross:
	@sh tests/lab/setup.sh cross

cross: setup-cross ## Build for one kind of router: make cross TARGET=mipsel_24kc (names: cross/targets)
	@sh cross/build.sh $(TARGET)

# All at once: each ends in minutes of one core, and takes 1.3 GB then.
cross-all: setup-cross ## Build for every kind of router (target/openwrt/TARGET/tollgated)
	@echo $(TARGETS) | xargs -n 1 -P 0 sh cross/build.sh

smoke: setup-cross ## Run what `cross` made on emulated processors: unit tests, and a sale (TARGET=one; without it, all)
	@rm -f $(SMOKE:%=target/openwrt/%/smoked)
	@sh tests/lab/setup.sh smoke
	@for target in $(SMOKE); do [ -e target/openwrt/$$target/tollgated ] || echo $$target; done | xargs -r -n 1 -P 0 sh cross/build.sh
	@echo $(SMOKE) | xargs -n 1 -P 0 sh -c 'sh cross/build.sh $$0 tests'
	@# Two at a time, because they mostly wait; each is shown as a whole.
	@echo $(SMOKE) | xargs -n 1 -P 2 sh -c 'made=target/openwrt/$$0; $(PYTHON) -m lab.smoke $$0 >$$made/smoke.log 2>&1 && touch $$made/smoked; cat $$made/smoke.log; [ -e $$made/smoked ]'

boot: setup-cross ## Run it as a router: another processor and kernel, emulated whole (TARGET=mipsel, aarch64, arm)
	@sh tests/lab/setup.sh boot
	@sh cross/build.sh $(TARGET)
	@$(PYTHON) -m lab.boot $(TARGET)

memory: setup-cross ## What the x86-64 router build keeps resident, idle and busy, against cross/limits
	@sh tests/lab/setup.sh smoke
	@[ -e target/openwrt/x86_64/tollgated ] || sh cross/build.sh x86_64
	@$(PYTHON) -m lab.memory $(CURDIR)/target/openwrt/x86_64/tollgated

crash: setup-cross ## The power is cut on paper at STATES=5000 moments of a shop's work, on the x86-64 router build
	@sh tests/lab/setup.sh smoke
	@[ -e target/openwrt/x86_64/tollgated ] || sh cross/build.sh x86_64
	@$(PYTHON) -m lab.crash_states $(CURDIR)/target/openwrt/x86_64/tollgated --states $(or $(STATES),5000)

size: cross-all ## What was built for routers against its limits (cross/limits), and what it is made of
	@python3 cross/size.py $(TARGETS)

ipk: setup-cross ## The package for opkg from the cross-built binary (TARGET=mipsel_24kc [ARCH=sister architecture])
	@python3 openwrt/package.py ipk --limits cross/limits --binary target/openwrt/$(TARGET)/tollgated --arch "$(or $(ARCH),$(TARGET))"

apk: ## The package for apk, OpenWrt 25.12, where `apk mkpkg` is at hand (TARGET=, [ARCH=], [APK=program])
	@APK="$(APK)" python3 openwrt/package.py apk --limits cross/limits --binary target/openwrt/$(TARGET)/tollgated --arch "$(or $(ARCH),$(TARGET))"

source: ## The release's tarball, whose version and hash are written into openwrt/Makefile (before `make release`)
	@python3 openwrt/package.py source

release: ## A release of what is committed: boot, packages, sums, tag (.ci/release; asks nothing, refuses a dirty tree)
	@.ci/release

clean: ## Remove what was built here, and the lab's environment outside the checkout
	@cargo clean --quiet
	@rm -rf $(CACHE)
