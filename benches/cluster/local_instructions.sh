#!/usr/bin/env bash
# What tables that are not distributed pay for the extension, counted: instructions per statement of a single-user
# backend under valgrind, without the library and with it, in a database with nodes and a distributed table. No client,
# no kernel, no other process: unlike times, the counts are the same on a busy machine, and what a user pays is
# less, since everything else comes on top.
#
#   make bench                                 all benchmarks
#   benches/cluster/local_instructions.sh      this one; `PROFILE=release make build` comes first, and Debian's valgrind

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

command -v valgrind >/dev/null || die "valgrind is missing; install the package valgrind"
FEW=${FEW:-1000}
MANY=${MANY:-3000}

start_servers 2
sql cluster "CREATE TABLE spread (id int PRIMARY KEY); SELECT sharding.distribute_table('spread', 'id')" >/dev/null
as_server "$PGROOT_BIN/pgbench" -i -q -s 1 "$(url cluster)" >/dev/null 2>&1
sql cluster "CHECKPOINT"
as_server "$PGROOT_BIN/pg_ctl" stop -D "$BASE/cluster/coordinator" -m fast -w >/dev/null

# Instructions of a backend that runs $2 once and $3 so many times.
count() { # libraries, once, statements, times
    local i
    {
        [ -z "$2" ] || echo "$2"
        for ((i = 0; i < $4; i++)); do echo "$3"; done
    } >"$BASE/input"
    as_server valgrind --tool=callgrind --callgrind-out-file=/dev/null "$PGROOT_BIN/postgres" --single \
        -D "$BASE/cluster/coordinator" -c "shared_preload_libraries=$1" -c fsync=off -c autovacuum=off app \
        <"$BASE/input" 2>&1 >/dev/null | sed -nE 's/.*Collected : ([0-9]+).*/\1/p'
}

# What one more execution costs.
each() { # libraries, once, statements
    local few many
    few=$(count "$1" "$2" "$3" "$FEW")
    many=$(count "$1" "$2" "$3" "$MANY")
    echo $(((many - few) / (MANY - FEW)))
}

echo "local tables: $(PORT=$PORT sql plain "SHOW server_version"), instructions per statement or transaction"
printf '%-22s | %9s %9s %6s\n' work without with ratio
run() { # NAME, once, statements
    local without with
    without=$(each '' "$2" "$3")
    with=$(each sharding "$2" "$3")
    awk -v name="$1" -v a="$without" -v b="$with" 'BEGIN { printf "%-22s | %9d %9d %6.3f\n", name, a, b, b / a }'
}

run 'select-only, prepared' 'PREPARE s(int) AS SELECT abalance FROM pgbench_accounts WHERE aid = $1;' 'EXECUTE s(77);'
run 'select-only, simple' '' 'SELECT abalance FROM pgbench_accounts WHERE aid = 77;'
run 'TPC-B, simple' '' "BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 5 WHERE aid = 77;
SELECT abalance FROM pgbench_accounts WHERE aid = 77;
UPDATE pgbench_tellers SET tbalance = tbalance + 5 WHERE tid = 3;
UPDATE pgbench_branches SET bbalance = bbalance + 5 WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (3, 1, 77, 5, CURRENT_TIMESTAMP);
END;"
