# Everything a newcomer types. Each target installs what it needs first (see scripts/deps.sh).
.PHONY: help demo compare test loom mutants sanitizers fuzz compat targets vm parts lint msrv package bench bench-full bench-smoke bench-render samples deb install-c deps

# With rustup's cargo, which goes before one that is too old.
export PATH := $(or $(shell scripts/deps.sh path),$(PATH))

help:
	@echo "make demo    run the main job: daemon and reclaimer as root, membarrier otherwise"
	@echo "make compare time this machine's barriers, and draw them"
	@echo "make test    build and run all tests (as root: with the live daemon)"
	@echo "make loom    the models of the reader protocol, the stack, the queue, the map, and of what processes share, under loom; LOOM=models::inbox chooses"
	@echo "make vm      real kernels in emulated machines, some 20 minutes; VM=\"rt idle\", 0/6 or arm64 chooses"
	@echo "make mutants the use-after-free detector against broken builds"
	@echo "make sanitizers  stress under AddressSanitizer, ThreadSanitizer and valgrind"
	@echo "make fuzz    the file's decoder and shared regions against arbitrary bytes, 15 s each; FUZZ_SECONDS=600 for longer"
	@echo "make install-c   headers, libbarrierd, libbarrierd-shared and pkg-config files; PREFIX=/usr/local"
	@echo "make deb     the Debian packages of the daemon and of both C libraries"
	@echo "make compat  published crates on the drop-in for crossbeam-epoch, and against the original"
	@echo "make targets the reclaimer and the drop-in compiled for other targets, and run on some; TARGETS=0/4 chooses"
	@echo "make parts   both of these, whole: each commit has one part of them in CI"
	@echo "make lint    format, clippy and documentation, warnings denied; public items; files and links that documents name"
	@echo "make msrv    everything except the benchmarks with the oldest Rust that is promised"
	@echo "make package every published crate, built from its own tarball"
	@echo "make bench   measure against the peers: docs/performance.md, some 10 minutes (bench-full: longer)"
	@echo "make samples the output of demo and compare in the documents, written anew"
	@echo "make deps    install what building and testing need"

demo:
	@scripts/deps.sh $(if $(filter 0,$(shell id -u)),build,run)
	@scripts/demo.sh

compare:
	@scripts/deps.sh $(if $(filter 0,$(shell id -u)),build,run)
	@scripts/compare.sh --quiet

test:
	@scripts/deps.sh test
	cargo test --workspace
	cargo test -p barrierd-reclaim --features tracing,serde --test tracing --test rcu --lib
	cargo test -p barrierd-structures --features serde --test map
	cargo test -p barrierd-shared --features testing --test killed --test turns --test map --test map_killed --test map_bounds --test room --test sweep --test two_processes --test storm

loom:
	@scripts/deps.sh run
	@scripts/loom.sh $(LOOM)

vm:
	@scripts/deps.sh vm
	cargo test --quiet --test vm -- $(VM)

mutants:
	@scripts/deps.sh run
	@scripts/mutants.sh

sanitizers:
	@scripts/deps.sh test
	@scripts/sanitizers.sh

fuzz:
	@scripts/deps.sh test
	@scripts/fuzz.sh

compat:
	@scripts/deps.sh test
	@scripts/compat.sh

targets:
	@scripts/deps.sh targets
	@scripts/targets.sh $(TARGETS)

# What .ci/run has in parts, all of it.
parts: vm targets

lint:
	@scripts/deps.sh lint
	scripts/links.py
	scripts/published.py check
	scripts/targets.sh table
	scripts/public_api.sh
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p barrierd-reclaim --all-targets --all-features -- -D warnings
	cargo test --quiet -p barrierd-reclaim --test house
	cargo test --quiet -p barrierd-daemon --test layers
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

msrv:
	@scripts/deps.sh run
	@scripts/msrv.sh

package:
	@scripts/deps.sh build
	@scripts/package.sh --allow-dirty

bench:
	@scripts/deps.sh bench
	@scripts/bench.sh short

bench-full:
	@scripts/deps.sh bench
	@scripts/bench.sh full

# Whether all of it still runs; its figures go nowhere.
bench-smoke:
	@scripts/deps.sh bench
	@scripts/bench.sh smoke

# The pages of the last run once more, with the words and reasons that the code has now.
bench-render:
	@scripts/deps.sh build
	@scripts/bench.sh render

# What the README shows of `make demo` and `make compare`.
samples:
	@scripts/deps.sh build
	@scripts/samples.sh

deb:
	@scripts/deps.sh build
	@scripts/deb.sh

install-c:
	@scripts/deps.sh run
	@scripts/install_c.sh

deps:
	@scripts/deps.sh test
