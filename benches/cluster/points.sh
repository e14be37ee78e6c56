#!/usr/bin/env bash
# Point queries: pgbench against a coordinator with two nodes and against one plain server with the same
# data, in turn (A B A B ...), medians, and the ratio of the throughputs.
#
#   make bench                          all benchmarks
#   benches/cluster/points.sh           this one; `PROFILE=release make build` comes first
#   WORK='select' benches/cluster/points.sh     the lines whose name matches
#
# Commits are durable (fsync), as they are in production; FSYNC=off shows what they cost beside the disk.
# The tables of pgbench are distributed by aid. ROUNDS, DURATION (seconds), CLIENTS and SCALE may be set;
# OTHER='postgresql://...' adds a column for another server that holds the same tables; RELAY=1 makes it the plain server
# behind something that does nothing but hand bytes on: what a hop costs.

FSYNC=${FSYNC:-on}
# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
DURATION=${DURATION:-8}
CLIENTS=${CLIENTS:-8}
SCALE=${SCALE:-10}
WORK=${WORK:-.}
ROWS=$((SCALE * 100000))

start_servers 2
for where in plain cluster; do
    as_server "$PGROOT_BIN/pgbench" -i -q -s "$SCALE" -I dtg "$(url "$where")" >/dev/null 2>&1
    [ "$where" = plain ] || sql cluster "SELECT sharding.distribute_table('pgbench_accounts', 'aid');
        SELECT sharding.distribute_table('pgbench_history', 'aid')" >/dev/null
    sql "$where" "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)"
    sql "$where" "ANALYZE pgbench_accounts"
    sql "$where" "CHECKPOINT"
done

script() { # NAME < text
    { echo "\\set aid random(1, $ROWS)"; echo "\\set other random(1, $ROWS)"; echo "\\set delta random(-5000, 5000)"; cat; } >"$BASE/$1.sql"
    chmod 644 "$BASE/$1.sql"
}
script select <<'SQL'
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SQL
script update <<'SQL'
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SQL
script insert <<'SQL'
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
SQL
script one <<'SQL'
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
SQL
# In one order, so that plain has no deadlocks: the smaller aid first.
script two <<'SQL'
\set low least(:aid, :other)
\set high greatest(:aid, :other)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance - :delta WHERE aid = :low;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :high;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
SQL

measure() { # plain | cluster | other, options of pgbench...
    local where=$1 output
    shift
    output=$(bench "$where" "$DURATION" "$@") || true
    sed -nE 's/^tps = ([0-9.]+).*/\1/p' <<<"$output" >>"$BASE/$where.tps"
    # A failure must not look like speed.
    grep -E 'aborted|ERROR|FATAL' <<<"$output" | head -2 >&2 || true
}

if [ -n "${RELAY:-}" ]; then
    cargo build -q -p pg_test --bin relay
    port=$(free_ports 1)
    "$CARGO_TARGET_DIR/debug/relay" "$port" "$PORT" &
    relay=$!
    trap 'kill "$relay"; release' EXIT
    OTHER=postgresql://postgres@127.0.0.1:$port/app
fi

SIDES=(plain cluster)
[ -z "$OTHER" ] || SIDES+=(other)
echo "point queries: $(versions)"
echo "pgbench -s $SCALE -T $DURATION, medians of $ROUNDS interleaved runs, two nodes, fsync $FSYNC"
printf '%-36s %10s %10s %7s' work 'plain tps' 'cluster' 'ratio'
[ -z "$OTHER" ] || printf ' %10s %7s' other ratio
echo

run() { # NAME, options of pgbench...
    local name=$1 round where
    shift
    grep -qE "$WORK" <<<"$name" || return 0
    rm -f "$BASE"/*.tps
    for ((round = 0; round <= ROUNDS; round++)); do
        for where in "${SIDES[@]}"; do
            measure "$where" "$@"
        done
        # The first round warms up.
        [ "$round" != 0 ] || rm -f "$BASE"/*.tps
    done
    printf '%-36s %10.0f' "$name" "$(median <"$BASE/plain.tps")"
    for where in "${SIDES[@]:1}"; do
        printf ' %10.0f %7.3f' "$(median <"$BASE/$where.tps")" "$(ratio "$BASE/$where.tps" "$BASE/plain.tps")"
    done
    echo
}

run 'point select, prepared' -c "$CLIENTS" -j 2 -M prepared -f "$BASE/select.sql"
run 'point select, extended' -c "$CLIENTS" -j 2 -M extended -f "$BASE/select.sql"
run 'point select, simple' -c "$CLIENTS" -j 2 -M simple -f "$BASE/select.sql"
run 'point select, prepared, 1 client' -c 1 -j 1 -M prepared -f "$BASE/select.sql"
run 'update by key, prepared' -c "$CLIENTS" -j 2 -M prepared -f "$BASE/update.sql"
run 'insert of one row, prepared' -c "$CLIENTS" -j 2 -M prepared -f "$BASE/insert.sql"
run 'transaction on one shard, prepared' -c "$CLIENTS" -j 2 -M prepared -f "$BASE/one.sql"
run 'two-phase commit, prepared' -c "$CLIENTS" -j 2 -M prepared -f "$BASE/two.sql"
