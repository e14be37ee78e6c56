#!/usr/bin/env bash
# Few clients and many on one pool: throughput and processor time of point statements by 8 clients and by 200, where the
# pool has 10 connections per node, in turn (A B A B ...); then the many for a minute, with the most connections
# that a node had and the errors.
#
#   make bench                          all benchmarks
#   benches/cluster/clients.sh          this one; `PROFILE=release make build` comes first
#   WORK='select' benches/cluster/clients.sh    the lines whose name matches
#
# ROUNDS, DURATION (seconds), FEW, MANY, POOL, SCALE and LONG (seconds of the last run) may be set.
# PLAIN=1 adds the same on one plain server: what so many processes cost by themselves.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
DURATION=${DURATION:-8}
FEW=${FEW:-8}
MANY=${MANY:-200}
POOL=${POOL:-10}
SCALE=${SCALE:-10}
LONG=${LONG:-60}
WORK=${WORK:-.}
ROWS=$((SCALE * 100000))

start_servers 2 "max_connections = '$((MANY + 50))'"
sql cluster "ALTER SYSTEM SET sharding.pool_size = $POOL"
restart cluster
for where in plain cluster; do
    as_server "$PGROOT_BIN/pgbench" -i -q -s "$SCALE" -I dtg "$(url "$where")" >/dev/null 2>&1
    [ "$where" = plain ] || sql cluster "SELECT sharding.distribute_table('pgbench_accounts', 'aid')" >/dev/null
    sql "$where" "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)"
    sql "$where" "ANALYZE pgbench_accounts"
    sql "$where" "CHECKPOINT"
done

script() { # NAME < text
    { echo "\\set aid random(1, $ROWS)"; cat; } >"$BASE/$1.sql"
    chmod 644 "$BASE/$1.sql"
}
script select <<'SQL'
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SQL
script update <<'SQL'
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SQL
script block <<'SQL'
BEGIN;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
END;
SQL

# Processor time of servers and all their processes, ended or not, in clock ticks.
ticks() { # plain | cluster
    local data total=0 postmaster own
    local datas=("$BASE/plain/data")
    [ "$1" = plain ] || datas=("$BASE"/cluster/coordinator "$BASE"/cluster/n[0-9]*)
    sleep 0.5 # the last sessions end
    for data in "${datas[@]}"; do
        postmaster=$(as_server head -1 "$data/postmaster.pid")
        own=$(sed 's/.*) //' "/proc/$postmaster/stat" | awk '{ print $12 + $13 + $14 + $15 }')
        total=$((total + own + $(sed 's/.*) //' /proc/[0-9]*/stat 2>/dev/null |
            awk -v parent="$postmaster" '$2 == parent { sum += $12 + $13 } END { print sum + 0 }')))
    done
    echo "$total"
}

# One run: appends transactions per second and microseconds of processor time per transaction.
measure() { # plain | cluster, clients, options of pgbench...
    local where=$1 clients=$2 before output
    shift 2
    before=$(ticks "$where")
    output=$(bench "$where" "$DURATION" -M prepared -c "$clients" -j 2 "$@") || true
    sed -nE 's/^tps = ([0-9.]+).*/\1/p' <<<"$output" >>"$BASE/$clients.tps"
    sed -nE 's/^number of transactions actually processed: ([0-9]+).*/\1/p' <<<"$output" |
        awk -v ticks=$(($(ticks "$where") - before)) -v hz="$(getconf CLK_TCK)" \
            '{ print ticks / hz * 1e6 / $1 }' >>"$BASE/$clients.cpu"
    # A failure must not look like speed.
    grep -E 'aborted|ERROR|FATAL' <<<"$output" | head -2 >&2 || true
}

SIDES=(cluster)
[ -z "${PLAIN:-}" ] || SIDES+=(plain)
echo "many clients: $(versions)"
echo "pgbench -s $SCALE -T $DURATION -M prepared, $FEW and $MANY clients, medians of $ROUNDS interleaved runs," \
    "two nodes, sharding.pool_size = $POOL, fsync off"
printf '%-28s | %9s %9s %6s | %9s %9s %6s\n' '' "tps" "tps" '' 'cpu us/tx' 'cpu us/tx' ''
printf '%-28s | %9s %9s %6s | %9s %9s %6s\n' work "$FEW" "$MANY" ratio "$FEW" "$MANY" ratio

run() { # NAME, options of pgbench...
    local name=$1 where round clients
    shift
    grep -qE "$WORK" <<<"$name" || return 0
    for where in "${SIDES[@]}"; do
        for ((round = 0; round <= ROUNDS; round++)); do
            for clients in "$FEW" "$MANY"; do
                measure "$where" "$clients" "$@"
            done
            # The first round warms up.
            [ "$round" != 0 ] || rm -f "$BASE"/*.tps "$BASE"/*.cpu
        done
        echo "$(median <"$BASE/$FEW.tps") $(median <"$BASE/$MANY.tps") $(ratio "$BASE"/{"$MANY","$FEW"}.tps)" \
            "$(median <"$BASE/$FEW.cpu") $(median <"$BASE/$MANY.cpu") $(ratio "$BASE"/{"$MANY","$FEW"}.cpu)" |
            awk -v name="$name${where/cluster/}" \
                '{ sub("plain$", ", plain", name)
                   printf "%-28s | %9.0f %9.0f %6.3f | %9.1f %9.1f %6.3f\n", name, $1, $2, $3, $4, $5, $6 }'
    done
}

run 'point select' -f "$BASE/select.sql"
run 'select and update, 4 to 1' -f "$BASE/select.sql@4" -f "$BASE/update.sql@1"
run 'transaction of both' -f "$BASE/block.sql"

[ "$LONG" != 0 ] || exit 0
# What each node says itself; looking seldom costs little.
watch() {
    local node count
    while sleep 1; do
        for node in n1 n2; do
            count=$(sql "$node" "SELECT count(*) FROM pg_stat_activity
                WHERE application_name = 'sharding: pgbench'")
            echo "$count" >>"$BASE/connections"
        done
    done
}
watch &
watcher=$!
output=$(bench cluster "$LONG" -M prepared -c "$MANY" -j 2 -f "$BASE/select.sql@4" -f "$BASE/update.sql@1") || true
kill "$watcher"
wait "$watcher" 2>/dev/null || true
most=$(sort -n "$BASE/connections" | tail -1)
errors=$(grep -cE 'aborted|ERROR|FATAL' <<<"$output" || true)
echo "$MANY clients for $LONG s: $(sed -nE 's/^tps = ([0-9]+).*/\1/p' <<<"$output") transactions per second," \
    "$errors errors, at most $most connections to a node"
