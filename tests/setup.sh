#!/usr/bin/env bash
# Installs what gigac is built with, when it is missing: LLVM 22 and a C linker.
# Debian 12 or later: by package name. Elsewhere, or without root: install LLVM 22 any way you like
# and set LLVM_SYS_221_PREFIX to its folder.
set -euo pipefail

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust with rustup first" >&2
    exit 1
fi

missing=()
if [ -z "${LLVM_SYS_221_PREFIX:-}" ] && [ ! -x /usr/lib/llvm-22/bin/llvm-config ]; then
    missing+=(llvm-22-dev)
fi
command -v cc >/dev/null || missing+=(gcc libc6-dev)

if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing ${missing[*]} (LLVM 22 generates the kernels)" >&2
    root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "neither root nor sudo: install LLVM 22 yourself and set LLVM_SYS_221_PREFIX" >&2
            exit 1
        fi
        root=(sudo)
    fi
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
