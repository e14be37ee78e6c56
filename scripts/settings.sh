# Settings that all scripts share; sourced, never run.
#
# After `. scripts/settings.sh` these are set:
#   ROOT         this checkout
#   CACHE        what is safe to reuse between checkouts (SHARDING_CACHE overrides)
#   SERVER_USER  who runs the Postgres servers: empty unless we are root
# and, after `use_postgres`, everything about one Postgres installation (see there).
#
# shellcheck shell=bash disable=SC2034
#
# Nothing here installs or builds: scripts/deps and scripts/build do.

set -euo pipefail

# A backtrace in a server's environment ends up in every error's DETAIL.
unset RUST_BACKTRACE RUST_LIB_BACKTRACE
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Postgres refuses to run as root, and other users cannot read root's home.
if [ -n "${SHARDING_CACHE:-}" ]; then
    CACHE=$SHARDING_CACHE
elif [ "$(id -u)" = 0 ]; then
    CACHE=/var/cache/sharding
else
    CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sharding
fi
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd -P)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# --- who runs the servers ---------------------------------------------------------------------

if [ "$(id -u)" != 0 ]; then
    SERVER_USER=
elif [ -n "${SHARDING_RUN_AS:-}" ]; then
    SERVER_USER=$SHARDING_RUN_AS
elif id postgres >/dev/null 2>&1; then
    SERVER_USER=postgres
else
    SERVER_USER=sharding # created by scripts/deps
fi

# Runs a program as the servers' user, from / and with a clean environment. LD_LIBRARY_PATH is for
# installations that are not the system's: their copied programs do not find their libpq.
as_server() {
    local clean=(env -i "PATH=/usr/local/bin:/usr/bin:/bin" HOME=/ LANG=C.UTF-8)
    if [ -n "${PG_LIBRARY_PATH:-}" ]; then
        clean+=("LD_LIBRARY_PATH=$PG_LIBRARY_PATH")
    fi
    if [ -n "$SERVER_USER" ]; then
        clean+=(setpriv "--reuid=$SERVER_USER" "--regid=$(id -g "$SERVER_USER")" --init-groups --)
    fi
    (cd / && exec "${clean[@]}" "$@")
}

# Runs a command as root: directly, through sudo, or not at all.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "run this as root, then try again: $*"
    fi
}

# --- which Postgres ---------------------------------------------------------------------------

SUPPORTED_MAJORS="18 17 16 15"

# Whether $1 is the pg_config of a server of a supported version, with headers.
complete_postgres() {
    local major bindir
    [ -x "$1" ] || return 1
    major=$("$1" --version 2>/dev/null | sed -E 's/^PostgreSQL ([0-9]+).*/\1/') || return 1
    [[ " $SUPPORTED_MAJORS " == *" $major "* ]] || return 1
    bindir=$("$1" --bindir)
    [ -x "$bindir/postgres" ] && [ -x "$bindir/initdb" ] || return 1
    [ -f "$("$1" --includedir-server)/postgres.h" ]
}

# Prints the pg_config to use: $PG_CONFIG, else the newest complete one; fails when there is none.
find_pg_config() {
    local candidate major
    if [ -n "${PG_CONFIG:-}" ]; then
        candidate=$(command -v "$PG_CONFIG") || die "PG_CONFIG=$PG_CONFIG is not a program"
        complete_postgres "$candidate" ||
            die "PG_CONFIG=$PG_CONFIG is not of a Postgres 15-18 server with development headers"
        echo "$candidate"
        return
    fi
    for major in $SUPPORTED_MAJORS; do
        candidate=/usr/lib/postgresql/$major/bin/pg_config
        if complete_postgres "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    candidate=$(command -v pg_config) && complete_postgres "$candidate" && echo "$candidate"
}

# Chooses a Postgres and sets
#   PG_CONFIG PG_MAJOR PG_BINDIR   the installation, which is only ever read
#   PGROOT PGROOT_BIN              this checkout's private copy of it, with the extension in it
#   PG_TEMPLATE                    a data directory to copy instead of running initdb
#   PG_LIBRARY_PATH                its libpq, if the system's loader would not find it
# and exports what cargo needs to build for it. The files come from scripts/build.
use_postgres() {
    PG_CONFIG=$(find_pg_config) || die "no Postgres 15-18 with headers found; run: make deps"
    PG_BINDIR=$("$PG_CONFIG" --bindir)
    PG_BINDIR=$(cd "$PG_BINDIR" && pwd -P)
    if [ -x "$PG_BINDIR/pg_config" ]; then
        PG_CONFIG=$PG_BINDIR/pg_config
    fi
    PG_VERSION=$("$PG_CONFIG" --version)
    PG_MAJOR=$(sed -E 's/^PostgreSQL ([0-9]+).*/\1/' <<<"$PG_VERSION")

    # One per checkout and installation, so that two checkouts never overwrite each other's library.
    local key
    key=$(printf '%s\n' "$ROOT" "$PG_BINDIR" "$PG_VERSION" "$SERVER_USER" |
        cat - "$ROOT/scripts/pgroot" "$ROOT/scripts/postgresql.conf" | sha256sum | cut -c1-12)
    PGROOT=$CACHE/pg$PG_MAJOR-$key
    PGROOT_BIN=$PGROOT$(relative_to_common "$PG_BINDIR")
    PG_TEMPLATE=$PGROOT/template
    PG_LIBRARY_PATH=$PGROOT/libraries

    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
    export PGRX_PG_CONFIG_PATH=$PG_CONFIG
    FEATURES=(--no-default-features --features "pg$PG_MAJOR")
    LOCKED=()
    if [ "${CI:-}" = true ]; then
        LOCKED=(--locked)
    fi
    PGRX_VERSION=$(sed -nE 's/^pgrx *=.*"=?([0-9]+\.[0-9]+\.[0-9]+)".*/\1/p' "$ROOT/Cargo.toml")
    PATH=$CACHE/cargo-pgrx-$PGRX_VERSION/bin:$PATH
}

# The deepest directory that holds the programs, the libraries and the shared files. Postgres finds
# the last two relative to its own executable, so a copy must keep their places below it.
common_directory() {
    local common=$PG_BINDIR directory
    for directory in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)"; do
        while [[ "$directory/" != "$common/"* ]]; do
            common=${common%/*}
        done
    done
    echo "$common"
}

relative_to_common() {
    local common
    common=$(common_directory)
    echo "${1#"$common"}"
}
