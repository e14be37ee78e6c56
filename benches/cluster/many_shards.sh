#!/usr/bin/env bash
# Many shards: two tables with the same rows on eight nodes, one of 8 shards and one of 256. What it takes to plan, by
# EXPLAIN (SUMMARY), medians; point statements by pgbench, in turn (A B A B ...), with the processor time of the
# coordinator and of the nodes; and a list of a million keys.
#
#   make bench                            all benchmarks
#   benches/cluster/many_shards.sh        this one; `PROFILE=release make build` comes first
#
# NODES, FEW, MANY (shards), ROWS, ROUNDS, DURATION (seconds), CLIENTS, PLANS (statements planned) and KEYS may be set.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

NODES=${NODES:-8}
FEW=${FEW:-8}
MANY=${MANY:-256}
ROWS=${ROWS:-1000000}
ROUNDS=${ROUNDS:-5}
DURATION=${DURATION:-5}
CLIENTS=${CLIENTS:-8}
PLANS=${PLANS:-41}
KEYS=${KEYS:-1000000}

start_servers "$NODES"
for shards in "$FEW" "$MANY"; do
    sql cluster "CREATE TABLE t$shards (id int8 PRIMARY KEY, a int4 NOT NULL, b text)"
    sql cluster "SELECT sharding.distribute_table('t$shards', 'id', $shards)" >/dev/null
    sql cluster "INSERT INTO t$shards SELECT i, i % 100, 'row ' || i FROM generate_series(1, $ROWS) i"
    sql cluster "ANALYZE t$shards"
    printf '\\set id random(1, %s)\nSELECT a FROM t%s WHERE id = :id;\n' "$ROWS" "$shards" >"$BASE/select$shards.sql"
    printf '\\set id random(1, %s)\nUPDATE t%s SET a = a + 1 WHERE id = :id;\n' "$ROWS" "$shards" \
        >"$BASE/update$shards.sql"
done
chmod 644 "$BASE"/*.sql

echo "many shards: $(versions)"
echo "$NODES nodes, $ROWS rows, fsync off"

# The median planning time in one session, in microseconds; the first plans are not counted.
planning() { # SQL with %s for the table, shards
    local query i
    # shellcheck disable=SC2059
    query="EXPLAIN (SUMMARY) $(printf "$1" "t$2")"
    for ((i = 0; i < PLANS + 5; i++)); do echo "$query;"; done |
        as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url cluster)" |
        sed -nE 's/^Planning Time: ([0-9.]+) ms/\1/p' | tail -n +6 | median | awk '{ print $1 * 1000 }'
}

plan() { # NAME, SQL
    local few many
    few=$(planning "$2" "$FEW")
    many=$(planning "$2" "$MANY")
    awk -v name="$1" -v few="$few" -v many="$many" \
        'BEGIN { printf "%-36s | %9.0f %9.0f %6.2f\n", name, few, many, many / few }'
}
printf '%-36s | %9s %9s %6s\n' "planning time, us, by shards" "$FEW" "$MANY" ratio
plan 'fan-out: count(*)' 'SELECT count(*) FROM %s'
plan 'fan-out: GROUP BY, ORDER BY, LIMIT' 'SELECT a, sum(id) FROM %s GROUP BY a ORDER BY 2 DESC LIMIT 10'
plan 'fan-out: all columns, a filter' "SELECT * FROM %s WHERE b LIKE 'row 77%%'"
plan 'fallback: window over all' 'SELECT id, rank() OVER (ORDER BY a) FROM %s'
plan 'point' 'SELECT a FROM %s WHERE id = 7'
plan 'list of ten keys' 'SELECT a FROM %s WHERE id IN (1,2,3,4,5,6,7,8,9,10)'

# Processor time of the coordinator and all nodes, of their processes, ended or not, in clock ticks.
ticks() {
    local data total=0 postmaster own
    sleep 0.5 # the last sessions end
    for data in "$BASE"/cluster/coordinator "$BASE"/cluster/n[0-9]*; do
        postmaster=$(as_server head -1 "$data/postmaster.pid")
        own=$(sed 's/.*) //' "/proc/$postmaster/stat" | awk '{ print $12 + $13 + $14 + $15 }')
        total=$((total + own + $(sed 's/.*) //' /proc/[0-9]*/stat 2>/dev/null |
            awk -v parent="$postmaster" '$2 == parent { sum += $12 + $13 } END { print sum + 0 }')))
    done
    echo "$total"
}

# One run: appends transactions per second and microseconds of processor time per transaction.
measure() { # script, shards, mode
    local before output
    before=$(ticks)
    output=$(bench cluster "$DURATION" -M "$3" -c "$CLIENTS" -j 2 -f "$BASE/$1$2.sql") || true
    sed -nE 's/^tps = ([0-9.]+).*/\1/p' <<<"$output" >>"$BASE/$2.tps"
    sed -nE 's/^number of transactions actually processed: ([0-9]+).*/\1/p' <<<"$output" |
        awk -v ticks=$(($(ticks) - before)) -v hz="$(getconf CLK_TCK)" '{ print ticks / hz * 1e6 / $1 }' >>"$BASE/$2.cpu"
    # A failure must not look like speed.
    grep -E 'aborted|ERROR|FATAL' <<<"$output" | head -2 >&2 || true
}

printf '\n%-36s | %9s %9s %6s | %9s %9s %6s\n' "pgbench -c $CLIENTS -T $DURATION, medians of $ROUNDS" \
    "tps $FEW" "tps $MANY" ratio "us/tx" "us/tx" ratio
for work in 'select prepared' 'select simple' 'update prepared'; do
    read -r script mode <<<"$work"
    for ((round = 0; round <= ROUNDS; round++)); do
        for shards in "$FEW" "$MANY"; do
            measure "$script" "$shards" "$mode"
        done
        # The first round warms up: each shard has a statement of its own to prepare.
        [ "$round" != 0 ] || rm -f "$BASE"/*.tps "$BASE"/*.cpu
    done
    echo "$(median <"$BASE/$FEW.tps") $(median <"$BASE/$MANY.tps") $(ratio "$BASE"/{"$MANY","$FEW"}.tps)" \
        "$(median <"$BASE/$FEW.cpu") $(median <"$BASE/$MANY.cpu") $(ratio "$BASE"/{"$MANY","$FEW"}.cpu)" |
        awk -v name="$script by key, $mode" \
            '{ printf "%-36s | %9.0f %9.0f %6.3f | %9.1f %9.1f %6.3f\n", name, $1, $2, $3, $4, $5, $6 }'
done

# A list of keys, half of which are in the table: the sum tells whether all of them were found, once.
for shards in "$FEW" "$MANY"; do
    {
        echo "SELECT count(*), sum(id) FROM t$shards WHERE id IN ("
        seq -s, $((ROWS - KEYS / 2 + 1)) $((ROWS + KEYS / 2))
        echo ");"
    } >"$BASE/list.sql"
    chmod 644 "$BASE/list.sql"
    begin=$(date +%s%N)
    answer=$(as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url cluster)" -f "$BASE/list.sql")
    wanted="$((KEYS / 2))|$(((ROWS - KEYS / 2 + 1 + ROWS) * (KEYS / 2) / 2))"
    [ "$answer" = "$wanted" ] || die "a list of $KEYS keys: $answer instead of $wanted"
    echo "a list of $KEYS keys, $shards shards: $((($(date +%s%N) - begin) / 1000000)) ms"
done
