# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# shellcheck shell=bash
# Shared by the scripts beside it.

# Tells what comes next.
step() {
    printf '\n==> %s\n' "$*" >&2
}

# rustup puts cargo where only a login shell looks for it.
load_cargo() {
    if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
}

# Where cargo builds: beside the sources, or in the cache if the tree cannot be written.
target_dir() {
    if [ -n "${CARGO_TARGET_DIR-}" ]; then
        echo "$CARGO_TARGET_DIR"
    elif [ -w . ]; then
        echo "$PWD/target"
    else
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/staleline-target"
    fi
}

# Puts into the environment what Cargo takes to build for arm64 and to run what it has built, elsewhere:
# the distribution's linker, an emulator of programs, and a compiler that has arm64's standard library.
cross_cargo() {
    local target=aarch64-unknown-linux-gnu rustc libraries
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # The C library for arm64 is that of the cross compiler.
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
    for rustc in rustc /usr/bin/rustc; do
        libraries=$("$rustc" --print target-libdir --target "$target" 2>/dev/null) || continue
        if compgen -G "$libraries/libstd-*.rlib" >/dev/null; then
            [ "$rustc" = rustc ] || export RUSTC=$rustc
            return 0
        fi
    done
    return 1
}
