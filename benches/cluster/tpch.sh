#!/usr/bin/env bash
# TPC-H: a coordinator with two nodes against one plain server that holds all the data, same build and
# settings, in turn (A B A B ...), medians of the milliseconds that psql measures; the ratio of each query and their
# geometric mean.
#
#   make bench                    all benchmarks
#   benches/cluster/tpch.sh       this one; `PROFILE=release make build` comes first
#
# SCALE is 1 unless set, LAYOUTS "a b" (pg_test/tpch/layout_?.sql: in a, all but orders and lines is everywhere;
# in b, each large table is spread by its own key), ROUNDS 5, ONLY a list of queries' numbers. SETTINGS are of the
# cluster's database: SETTINGS='sharding.ship_joins=off'. OTHER is the URL of a further server that holds the tables in
# its schema tpch, for a further column; what it cannot answer has none. All data fit into memory and fsync is off. Everything is
# removed at the end.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

SCALE=${SCALE:-1}
LAYOUTS=${LAYOUTS:-a b}
ROUNDS=${ROUNDS:-5}
ONLY=${ONLY:-}
SETTINGS=${SETTINGS:-}
SERVERS="plain cluster${OTHER:+ other}"
TABLES="region nation supplier customer part partsupp orders lineitem"
TPCH=$ROOT/pg_test/tpch

start_servers 2 "work_mem = '64MB'" "jit = off"

CSV=$CARGO_TARGET_DIR/debug/tpch_csv
cargo build -q -p pg_test --bin tpch_csv
for table in $TABLES; do "$CSV" "$table" "$SCALE" >"$BASE/$table.csv"; done

load() { # server
    local table
    for table in $TABLES; do
        as_server "$PGROOT_BIN/psql" -X -q -v ON_ERROR_STOP=1 -d "$(url "$1")" \
            -c "COPY tpch.$table FROM STDIN (FORMAT csv, HEADER)" <"$BASE/$table.csv"
    done
}

schema() { # server
    sql "$1" "DROP SCHEMA IF EXISTS tpch CASCADE" 2>/dev/null
    sql "$1" "CREATE SCHEMA tpch; SET search_path = tpch; $(cat "$TPCH/schema.sql")"
}

analyze() { # servers
    local where
    for where in "$@"; do
        sql "$where" "VACUUM (ANALYZE, FREEZE)"
        sql "$where" "CHECKPOINT"
    done
}

# The statements of one query, without comments.
query() { # number
    awk -v n="$1" '/^-- [0-9]+:/ { on = ($2 == n ":") ; next } /^--/ { next } on' "$TPCH/queries.sql"
}

# Creating and dropping a view does not count: the time of the SELECT.
milliseconds() { # server, statements
    local time
    if time=$(run_timed "$@"); then echo "$time"; else [ "$1" = other ]; fi
}

run_timed() { # server, statements
    as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url "$1")" -o /dev/null \
        -c 'SET search_path = tpch' -c '\timing on' -f - <<<"$2" |
        sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p' | sort -n | tail -1
}

answer() { # server, statements
    as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url "$1")" -c 'SET search_path = tpch' -f - <<<"$2"
}

echo "TPC-H: $(versions)"
echo "scale $SCALE, coordinator and 2 nodes, medians of $ROUNDS interleaved runs, ms"

schema plain
load plain
analyze plain
for setting in $SETTINGS; do sql cluster "ALTER DATABASE app SET ${setting%%=*} = ${setting#*=}"; done
for layout in $LAYOUTS; do
    schema cluster
    sql cluster "SET search_path = tpch;
        $(sed -nE "s/^-- @distribute\((\w+), (\w+)\)/SELECT sharding.distribute_table('\1', '\2');/p
            s/^-- @replicate\((\w+)\)/SELECT sharding.replicate_table('\1');/p" "$TPCH/layout_$layout.sql")" >/dev/null
    load cluster
    analyze n1 n2
    for table in $TABLES; do sql cluster "ANALYZE tpch.$table"; done
    printf '%-10s | %9s %9s %6s\n' "layout $layout" plain cluster ratio
    : >"$BASE/ratios"
    for number in ${ONLY:-$(seq 22)}; do
        statements=$(query "$number")
        rm -f "$BASE"/*.ms
        for where in $SERVERS; do milliseconds "$where" "$statements" >/dev/null; done
        for ((round = 1; round <= ROUNDS; round++)); do
            for where in $SERVERS; do milliseconds "$where" "$statements" >>"$BASE/$where.ms"; done
        done
        same=
        [ "$(answer plain "$statements")" = "$(answer cluster "$statements")" ] || same=DIFFERENT
        ratio=$(ratio "$BASE/cluster.ms" "$BASE/plain.ms")
        echo "$ratio" >>"$BASE/ratios"
        printf 'query %-4s | %9.1f %9.1f %6.2f %s' "$number" "$(median <"$BASE/plain.ms")" \
            "$(median <"$BASE/cluster.ms")" "$ratio" "$same"
        [ ! -s "$BASE/other.ms" ] || printf ' | other %.1f' "$(median <"$BASE/other.ms")"
        echo
    done
    awk '{ sum += log($1) } END { printf "geometric mean of %d: %.2f\n", NR, exp(sum / NR) }' "$BASE/ratios"
done
