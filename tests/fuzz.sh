#!/usr/bin/env bash
# Random and damaged inputs for every parser of untrusted text and bytes: COUNT inputs for each test (default 2000).
set -euo pipefail
cd "$(dirname "$0")/.."
export PROPTEST_CASES="${1:-2000}"

cargo test --locked -p gigac-frontend --test hostile
cargo test --locked -p gigac-ir --lib -- graph::tests::{mutated,any_text} kernel::tests::no_text
cargo test --locked -p gigac-runtime --lib -- damage any_bytes cut_files hostile_bytes
cargo test --locked -p gigac-emulator --test fuzz
