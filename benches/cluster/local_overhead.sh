#!/usr/bin/env bash
# What tables that are not distributed pay for the extension: pgbench on local tables, on a server
# without it and on a coordinator, same build and settings, in turn (A B B A ...), medians. Besides the
# throughput, the processor time that the backends took: other work on the machine disturbs it less.
#
#   make bench                             all benchmarks
#   benches/cluster/local_overhead.sh      this one; `PROFILE=release make build` comes first
#
# The coordinator has two nodes and a distributed table, so that every statement passes the checks
# that a cluster in use makes. Both servers are restarted for each pair of runs: where a server's memory happens
# to lie makes some percent of difference between two that are alike. How much, CONTROL=1 shows: it leaves
# the library out of the coordinator too. ROUNDS, DURATION (seconds), CLIENTS and SCALE may be set, and WORK, a
# pattern for names.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-25}
DURATION=${DURATION:-3}
WORK=${WORK:-.}
CLIENTS=${CLIENTS:-4}
SCALE=${SCALE:-10}

start_servers 2
sql cluster "CREATE TABLE spread (id int PRIMARY KEY, v text);
    SELECT sharding.distribute_table('spread', 'id');
    INSERT INTO spread SELECT i, i FROM generate_series(1, 1000) i"
for where in plain cluster; do
    as_server "$PGROOT_BIN/pgbench" -i -q -s "$SCALE" "$(url "$where")" >/dev/null 2>&1
    sql "$where" "CHECKPOINT"
done

[ -z "${CONTROL:-}" ] ||
    as_server tee -a "$BASE/cluster/coordinator/postgresql.auto.conf" <<<"shared_preload_libraries = ''" >/dev/null

refresh() { # server
    restart "$1"
    # Into shared buffers; a sequential scan of a large table would not stay there.
    sql "$1" "SET enable_seqscan = off; SET enable_bitmapscan = off;
        SELECT sum(abalance) FROM pgbench_accounts WHERE aid > 0" >/dev/null
}

# Processor time of a server's ended backends, in clock ticks: the postmaster's cutime and cstime.
ticks() { # plain | cluster
    local data=$BASE/plain/data
    [ "$1" = plain ] || data=$BASE/cluster/coordinator
    sleep 0.3
    sed 's/.*) //' "/proc/$(as_server head -1 "$data/postmaster.pid")/stat" | awk '{ print $14 + $15 }'
}

# One run: appends transactions per second and microseconds of processor time per transaction.
measure() { # plain | cluster, options of pgbench...
    local where=$1 before output
    shift
    before=$(ticks "$where")
    output=$(bench "$where" "$DURATION" -c "$CLIENTS" -j 2 "$@")
    sed -nE 's/^tps = ([0-9.]+).*/\1/p' <<<"$output" >>"$BASE/$where.tps"
    sed -nE 's/^number of transactions actually processed: ([0-9]+).*/\1/p' <<<"$output" |
        awk -v ticks=$(($(ticks "$where") - before)) -v hz="$(getconf CLK_TCK)" \
            '{ print ticks / hz * 1e6 / $1 }' >>"$BASE/$where.cpu"
}

echo "local tables: $(versions)${CONTROL:+, control: the library is on neither side}"
echo "pgbench -s $SCALE -c $CLIENTS -j 2 -T $DURATION, medians of $ROUNDS pairs of runs, fsync off"
printf '%-22s | %8s %8s %6s | %9s %9s %6s\n' '' 'tps' 'tps' '' 'cpu us/tx' 'cpu us/tx' ''
printf '%-22s | %8s %8s %6s | %9s %9s %6s\n' work without with ratio without with ratio

run() { # NAME, options of pgbench...
    local name=$1 round where order
    shift
    grep -qE "$WORK" <<<"$name" || return 0
    rm -f "$BASE"/*.tps "$BASE"/*.cpu
    for ((round = 1; round <= ROUNDS; round++)); do
        # Who comes second finds a warmer machine.
        if ((round % 2)); then order='plain cluster'; else order='cluster plain'; fi
        refresh plain
        refresh cluster
        for where in $order; do
            measure "$where" "$@"
        done
    done
    echo "$(median <"$BASE/plain.tps") $(median <"$BASE/cluster.tps") $(ratio "$BASE"/{cluster,plain}.tps)" \
        "$(median <"$BASE/plain.cpu") $(median <"$BASE/cluster.cpu") $(ratio "$BASE"/{cluster,plain}.cpu)" |
        awk -v name="$name" '{ printf "%-22s | %8.0f %8.0f %6.3f | %9.1f %9.1f %6.3f\n", name, $1, $2, $3, $4, $5, $6 }'
}

run 'select-only, prepared' -S -M prepared
run 'select-only, simple' -S -M simple
run 'TPC-B, prepared' -M prepared
run 'TPC-B, simple' -M simple
