#!/usr/bin/env bash
# Trains gigachat-demo on the shipped Russian and English text: a minute on two cores, after the build.
# Leaves the loss curve, metrics, checkpoints and a sample in runs/demo.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/setup.sh
cargo build --release --workspace --locked
exec "${CARGO_TARGET_DIR:-target}/release/gigac" train models/gigachat-demo.giga --data examples/corpus --out runs/demo --steps 2000 "$@"
