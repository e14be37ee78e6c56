#!/usr/bin/env bash
# Many rows written at once: a coordinator with two nodes against one plain server, same build and settings, in turn
# (A B A B ...), medians of the milliseconds that psql measures.
#
#   make bench                  all benchmarks
#   benches/cluster/bulk.sh     this one; `PROFILE=release make build` comes first
#
# COPY FROM reads files of ROWS (2 million) rows of about 100 bytes in 6 columns; INSERT ... SELECT reads a table of
# the same rows. Tables are emptied before each run. ROUNDS may be set; ONLY is a pattern for names of work. All data fit into
# memory and fsync is off: the disk would hide what is measured. Everything is removed at the end.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
ROWS=${ROWS:-2000000}
ONLY=${ONLY:-}

start_servers 2 "work_mem = '64MB'" "jit = off" "max_wal_size = '16GB'"

COLUMNS_OF="(tenant bigint NOT NULL, id bigint NOT NULL, class int NOT NULL, place int NOT NULL, amount numeric(10,2), note text)"
TABLES="CREATE TABLE entries $COLUMNS_OF; CREATE TABLE copies $COLUMNS_OF; CREATE TABLE others $COLUMNS_OF;"
sql plain "$TABLES"
sql cluster "$TABLES SELECT sharding.distribute_table('entries', 'tenant');
    SELECT sharding.distribute_table('copies', 'tenant', colocate_with => 'entries');
    SELECT sharding.distribute_table('others', 'id');" >/dev/null
DATA=$BASE/data
mkdir -p "$DATA"
chmod 777 "$DATA"
ROWS_OF="SELECT (i::bigint * 7919) % ($ROWS / 10), i::bigint, i % 12, (i * 31) % 100, ((i::bigint * 7919 % 1000003) / 100.0)::numeric(10,2),
    repeat(md5(i::text), 2) FROM generate_series(1, $ROWS) i"
sql plain "COPY ($ROWS_OF) TO '$DATA/rows.txt'; COPY ($ROWS_OF) TO '$DATA/rows.csv' (FORMAT csv);
    COPY ($ROWS_OF) TO '$DATA/rows.bin' (FORMAT binary)"
for where in plain cluster; do sql "$where" "COPY entries FROM '$DATA/rows.txt'"; done

milliseconds() { # server, SQL
    as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url "$1")" -o /dev/null \
        -c '\timing on' -c "$2" | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
}

echo "bulk loads: $(versions)"
echo "$ROWS rows, coordinator and 2 nodes, medians of $ROUNDS interleaved runs, ms"
printf '%-32s | %9s %9s %6s\n' work plain cluster ratio

run() { # NAME, TABLE, SQL
    local name=$1 table=$2 statement=$3 round where
    [[ $name == *$ONLY* ]] || return 0
    rm -f "$BASE"/*.ms
    for ((round = 1; round <= ROUNDS; round++)); do
        for where in plain cluster; do
            sql "$where" "TRUNCATE $table"
            milliseconds "$where" "$statement" >>"$BASE/$where.ms"
        done
    done
    [ "$(sql plain "SELECT count(*), sum(id) FROM $table")" = "$(sql cluster "SELECT count(*), sum(id) FROM $table")" ] ||
        name="$name DIFFERENT"
    printf '%-32s | %9.1f %9.1f %6.3f\n' "$name" "$(median <"$BASE/plain.ms")" "$(median <"$BASE/cluster.ms")" \
        "$(echo "$(median <"$BASE/cluster.ms") $(median <"$BASE/plain.ms")" | awk '{ print $1 / $2 }')"
}

run 'COPY FROM text' copies "COPY copies FROM '$DATA/rows.txt'"
run 'COPY FROM CSV' copies "COPY copies FROM '$DATA/rows.csv' (FORMAT csv)"
run 'COPY FROM binary' copies "COPY copies FROM '$DATA/rows.bin' (FORMAT binary)"
run 'INSERT ... SELECT colocated' copies "INSERT INTO copies SELECT * FROM entries"
run 'INSERT ... SELECT to another key' others "INSERT INTO others SELECT * FROM entries"
