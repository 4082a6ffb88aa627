#!/usr/bin/env bash
# Installs what is missing, then runs every check: format, lints, documentation, all tests, a
# longer fuzz run, NVIDIA's assembler where it is installed, and a short training run with the built command.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/setup.sh

gigac="${CARGO_TARGET_DIR:-target}/debug/gigac"
step() { printf '\n== %s\n' "$1"; }

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

step "tests"
cargo build --workspace --locked
cargo test --workspace --locked

step "fuzz: parsers of untrusted text and bytes under random and damaged inputs"
bash tests/fuzz.sh

step "NVIDIA's assembler: every kernel of every model, no spills"
if command -v python3 >/dev/null; then
    python3 benches/ptx/assemble.py --optional "$gigac"
else
    echo "skipped: no python3"
fi

step "training run"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$gigac" train models/nano.giga --data examples/corpus --steps 100 --out "$out/run" --quiet
tail -n 1 "$out/run/metrics.jsonl"
