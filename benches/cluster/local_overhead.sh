#!/usr/bin/env bash
# What tables that are not distributed pay for the extension: pgbench on local tables, on a server
# without it and on a coordinator, same build and settings, in turn (A B A B ...), medians. Besides the
# throughput, the processor time that the backends took: other work on the machine disturbs it less.
#
#   make bench                             all benchmarks
#   benches/cluster/local_overhead.sh      this one; `PROFILE=release make build` comes first
#
# The coordinator has two nodes and a distributed table, so that every statement passes the checks
# that a cluster in use makes. ROUNDS, DURATION (seconds), CLIENTS and SCALE may be set. All data fit
# into memory and fsync is off: the disk would hide what is measured. Everything is removed at the end.

# shellcheck source=scripts/settings.sh
. "$(dirname "$0")/../../scripts/settings.sh"
use_postgres

ROUNDS=${ROUNDS:-5}
DURATION=${DURATION:-10}
CLIENTS=${CLIENTS:-4}
SCALE=${SCALE:-10}

[ -f "$PGROOT/complete" ] || die "no extension is built; run: PROFILE=release make build"

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first of four free ports: plain server, coordinator, two nodes.
PORT=
for candidate in $(seq 9600 4 9696); do
    if port_is_free "$candidate" && port_is_free $((candidate + 1)) &&
        port_is_free $((candidate + 2)) && port_is_free $((candidate + 3)); then
        PORT=$candidate
        break
    fi
done
[ -n "$PORT" ] || die "no four free ports from 9600"

BASE=$(mktemp -d "$CACHE/bench-XXXXXX")
chmod 755 "$BASE"
release() {
    [ ! -d "$BASE/with" ] || "$ROOT/scripts/cluster" stop "$BASE/with" || true
    [ ! -f "$BASE/without/data/postmaster.pid" ] ||
        as_server "$PGROOT_BIN/pg_ctl" stop -D "$BASE/without/data" -m fast -w >/dev/null || true
    rm -rf "$BASE"
}
trap release EXIT

server() { # without | with
    [ "$1" = without ] && echo "$PORT" || echo $((PORT + 1))
}
sql() { # without | with, SQL
    as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$(server "$1")" -U postgres -d app -c "$2"
}
bench() { # without | with, seconds, options of pgbench...
    local where=$1 seconds=$2
    shift 2
    as_server "$PGROOT_BIN/pgbench" -h 127.0.0.1 -p "$(server "$where")" -U postgres -n \
        -c "$CLIENTS" -j 2 -T "$seconds" "$@" app 2>&1
}

start_without() {
    mkdir "$BASE/without"
    [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$BASE/without"
    as_server mkdir -m 700 "$BASE/without/socket"
    as_server cp -a "$PG_TEMPLATE" "$BASE/without/data"
    # As scripts/cluster writes it for the coordinator, but without the library; the same program file.
    as_server tee "$BASE/without/data/server.conf" >/dev/null <<CONF
port = $PORT
unix_socket_directories = '$BASE/without/socket'
shared_preload_libraries = ''
shared_buffers = 256MB
CONF
    as_server "$PGROOT_BIN/pg_ctl" start -D "$BASE/without/data" -w -t 60 -l "$BASE/without/log" >/dev/null
}

start_without
"$ROOT/scripts/cluster" start "$BASE/with" 2 "$((PORT + 1))" >/dev/null
sql with "CREATE TABLE spread (id int PRIMARY KEY, v text);
    SELECT sharding.distribute_table('spread', 'id');
    INSERT INTO spread SELECT i, i FROM generate_series(1, 1000) i"
for where in without with; do
    sql "$where" "ALTER SYSTEM SET fsync = off"
    sql "$where" "ALTER SYSTEM SET autovacuum = off"
    sql "$where" "ALTER SYSTEM SET max_wal_size = '8GB'"
    sql "$where" "ALTER SYSTEM SET checkpoint_timeout = '1h'"
    sql "$where" "SELECT pg_reload_conf()" >/dev/null
    as_server "$PGROOT_BIN/pgbench" -h 127.0.0.1 -p "$(server "$where")" -U postgres \
        -i -q -s "$SCALE" app >/dev/null 2>&1
    # Into shared buffers; a sequential scan of a large table would not stay there.
    sql "$where" "SET enable_seqscan = off; SET enable_bitmapscan = off;
        SELECT sum(abalance) FROM pgbench_accounts WHERE aid > 0" >/dev/null
    sql "$where" "CHECKPOINT"
done

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# Processor time of a server's ended backends, in clock ticks: the postmaster's cutime and cstime.
ticks() { # without | with
    local data=$BASE/without/data
    [ "$1" = without ] || data=$BASE/with/coordinator
    sleep 0.3
    sed 's/.*) //' "/proc/$(as_server head -1 "$data/postmaster.pid")/stat" | awk '{ print $14 + $15 }'
}

# One run: appends transactions per second and microseconds of processor time per transaction.
measure() { # without | with, options of pgbench...
    local where=$1 before output
    shift
    before=$(ticks "$where")
    output=$(bench "$where" "$DURATION" "$@")
    sed -nE 's/^tps = ([0-9.]+).*/\1/p' <<<"$output" >>"$BASE/$where.tps"
    sed -nE 's/^number of transactions actually processed: ([0-9]+).*/\1/p' <<<"$output" |
        awk -v ticks=$(($(ticks "$where") - before)) -v hz="$(getconf CLK_TCK)" \
            '{ print ticks / hz * 1e6 / $1 }' >>"$BASE/$where.cpu"
}

extension=$(sql with "SELECT extversion FROM pg_extension WHERE extname = 'sharding'")
echo "local tables: sharding $extension on $PG_VERSION, $(nproc) cores, $(date +%F)"
echo "pgbench -s $SCALE -c $CLIENTS -j 2 -T $DURATION, medians of $ROUNDS interleaved runs, fsync off"
printf '%-22s | %8s %8s %6s | %9s %9s %6s\n' '' 'tps' 'tps' '' 'cpu us/tx' 'cpu us/tx' ''
printf '%-22s | %8s %8s %6s | %9s %9s %6s\n' work without with ratio without with ratio

run() { # NAME, options of pgbench...
    local name=$1 round where
    shift
    rm -f "$BASE"/*.tps "$BASE"/*.cpu
    for where in without with; do
        bench "$where" 3 "$@" >/dev/null
    done
    for ((round = 1; round <= ROUNDS; round++)); do
        for where in without with; do
            measure "$where" "$@"
        done
    done
    echo "$(median <"$BASE/without.tps") $(median <"$BASE/with.tps")" \
        "$(median <"$BASE/without.cpu") $(median <"$BASE/with.cpu")" |
        awk -v name="$name" '{
            printf "%-22s | %8.0f %8.0f %6.3f | %9.1f %9.1f %6.3f\n", name, $1, $2, $2 / $1, $3, $4, $4 / $3
        }'
}

run 'select-only, prepared' -S -M prepared
run 'select-only, simple' -S -M simple
run 'TPC-B, prepared' -M prepared
run 'TPC-B, simple' -M simple
