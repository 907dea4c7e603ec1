# What a person types. Everything builds with one profile (`fast`: no LTO) but `dist`, which is what ships.

CARGO   ?= cargo
PROFILE := fast
OUT     := target/$(PROFILE)
DIST    := target/dist
HOST    := $(shell rustc -vV | sed -n 's/^host: //p')
SMALL   := -p supervisor -p sync -p query

.PHONY: demo build test soak lint dist images bench clean

demo: build ## the example bots, live, with nothing else installed
	$(OUT)/agent dev examples --data ./data

build: examples/market/market ## the four programs, for tests and the demo
	$(CARGO) build --workspace --profile $(PROFILE) --locked

examples/market/market: examples/market/main.rs
	rustc --edition 2024 -O $< -o $@

test: ## everything, with what it needs set up first; THE0_TEST_JOBS (3) test binaries at a time
	tests/setup/all.sh
	$(MAKE) lint
	$(MAKE) build dist
	tests/setup/run.sh tests/setup/side_by_side.sh --workspace --profile $(PROFILE) --locked

soak: build dist ## bots while all around them is cut, killed and changed at random: THE0_SOAK_SECONDS (600), THE0_SOAK_SEED
	tests/setup/all.sh
	THE0_SOAK_SECONDS=$${THE0_SOAK_SECONDS:-600} tests/setup/run.sh \
	  $(CARGO) test -p tests --test soak --profile $(PROFILE) --locked -- --nocapture

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --profile $(PROFILE) --locked -- -D warnings
	tests/setup/deny.sh

# Static glibc needs an explicit target, else the flag would reach build scripts and proc-macros. The getrandom crate
# looks its system call up with dlsym, which a static binary has not: it is told to make the call.
dist: ## the three in-container binaries, static, as images get them
	RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
	  $(CARGO) build $(SMALL) --release --target $(HOST) --target-dir $(DIST) --locked
	ls -l $(addprefix $(DIST)/$(HOST)/release/,supervisor sync query)

images: dist build ## the seven runtime images and the agent's; see images/build.sh for its settings
	images/build.sh

bench: dist build ## figures beside those of other programs, in one run
	tests/setup/bench.sh
	$(CARGO) run -q -p tests --example bench --profile $(PROFILE) --locked -- $(DIST)/$(HOST)/release

clean:
	$(CARGO) clean
	rm -rf data examples/market/market
