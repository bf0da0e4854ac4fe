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
