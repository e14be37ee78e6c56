# A plain server and a cluster to compare it with; sourced by the programs in benches/cluster.
#
#   . "$(dirname "$0")/../servers.sh"
#   start_servers NODES [LINE OF postgresql.conf...]
#   sql SERVER SQL                              plain, cluster, n1, n2 ..., other
#   bench SERVER SECONDS OPTION OF pgbench...
#
# Same build and settings on both sides; all data fit into memory and, unless the caller sets FSYNC=on, fsync is off:
# the disk would hide what is measured. Everything is removed at the end.
#
# shellcheck shell=bash

# shellcheck source=scripts/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/settings.sh"
use_postgres
[ -f "$PGROOT/complete" ] || die "no extension is built; run: PROFILE=release make build"

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first of so many free ports in a row.
free_ports() { # COUNT
    local first port
    for first in $(seq 9600 "$1" 9800); do
        for port in $(seq "$first" $((first + $1 - 1))); do
            port_is_free "$port" || continue 2
        done
        echo "$first"
        return
    done
    die "no $1 free ports from 9600"
}

BASE=$(mktemp -d "$CACHE/bench-XXXXXX")
chmod 755 "$BASE"
release() {
    [ ! -d "$BASE/cluster" ] || "$ROOT/scripts/cluster" stop "$BASE/cluster" || true
    [ ! -f "$BASE/plain/data/postmaster.pid" ] ||
        as_server "$PGROOT_BIN/pg_ctl" stop -D "$BASE/plain/data" -m fast -w >/dev/null || true
    rm -rf "$BASE"
}
trap release EXIT

FSYNC=${FSYNC:-off}
OTHER=${OTHER:-} # the URL of a further server to measure

url() { # plain | cluster | n1 | n2 ... | other
    case $1 in
    plain) echo "postgresql://postgres@127.0.0.1:$PORT/app" ;;
    cluster) echo "postgresql://postgres@127.0.0.1:$((PORT + 1))/app" ;;
    n*) echo "postgresql://postgres@127.0.0.1:$((PORT + 1 + ${1#n}))/app" ;;
    other) echo "$OTHER" ;;
    esac
}

sql() { # server, SQL
    as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url "$1")" -c "$2"
}

bench() { # server, seconds, options of pgbench...
    local where=$1 seconds=$2
    shift 2
    as_server "$PGROOT_BIN/pgbench" -n -T "$seconds" "$@" "$(url "$where")" 2>&1
}

restart() { # server
    local data=cluster/$1
    case $1 in
    plain) data=plain/data ;;
    cluster) data=cluster/coordinator ;;
    esac
    as_server "$PGROOT_BIN/pg_ctl" restart -D "$BASE/$data" -m fast -w -t 60 -l "$BASE/$data/restart.log" >/dev/null
}

start_servers() { # nodes, lines of postgresql.conf...
    local nodes=$1 server line
    shift
    PORT=$(free_ports $((nodes + 2)))
    mkdir "$BASE/plain"
    [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$BASE/plain"
    as_server mkdir -m 700 "$BASE/plain/socket"
    as_server cp -a "$PG_TEMPLATE" "$BASE/plain/data"
    # As scripts/cluster writes it for the coordinator, but without the library; the same program file.
    as_server tee "$BASE/plain/data/server.conf" >/dev/null <<CONF
port = $PORT
unix_socket_directories = '$BASE/plain/socket'
shared_preload_libraries = ''
CONF
    as_server "$PGROOT_BIN/pg_ctl" start -D "$BASE/plain/data" -w -t 60 -l "$BASE/plain/log" >/dev/null
    "$ROOT/scripts/cluster" start "$BASE/cluster" "$nodes" "$((PORT + 1))" >/dev/null
    for server in plain cluster $(seq -f 'n%g' "$nodes"); do
        for line in "shared_buffers = '512MB'" "fsync = $FSYNC" "autovacuum = off" "max_wal_size = '8GB'" \
            "checkpoint_timeout = '1h'" "$@"; do
            sql "$server" "ALTER SYSTEM SET $line"
        done
    done
    for server in plain cluster $(seq -f 'n%g' "$nodes"); do
        restart "$server"
    done
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# The median of the ratios of two files' lines: runs that followed each other are compared, so that a machine
# that becomes slower or faster meanwhile matters less.
ratio() { # OF, TO
    paste "$1" "$2" | awk '{ print $1 / $2 }' | median
}

# What a report begins with.
versions() {
    echo "sharding $(sql cluster "SELECT extversion FROM pg_extension WHERE extname = 'sharding'")" \
        "on $PG_VERSION, $(nproc) cores, $(date +%F)"
}
