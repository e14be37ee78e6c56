#!/usr/bin/env bash
# Many rows written or read at once: a coordinator with two nodes against one plain server, same build and settings, in
# turn (A B A B ...), medians of the milliseconds that psql measures.
#
#   make bench                  all benchmarks
#   benches/cluster/bulk.sh     this one; `PROFILE=release make build` comes first
#
# COPY FROM reads files of ROWS (2 million) rows of about 100 bytes in 6 columns; INSERT ... SELECT reads a table of the
# same rows; what is read goes to a psql whose output is /dev/null. "parts" is the plain server with tables of 32
# partitions, as many as the cluster has shards: what the nodes have to do for each row. "least" is what the two nodes
# take if each writes half of the rows at once into a plain table, from a file or table of its own: without a
# coordinator, two servers on this machine are no faster. "memory" is the most that the coordinator's backend ever had,
# in MB (VmHWM), behind that of the same statement over a tenth of the rows: what streams stays flat. Tables are emptied
# before each write. ROUNDS may be set; ONLY is a pattern for names of work; OTHER is the URL of a further server on
# this machine that has the same tables, for a further line. All data fit into memory and fsync is off: the disk would
# hide what is measured. Everything is removed at the end.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
ROWS=${ROWS:-2000000}
ONLY=${ONLY:-}

start_servers 2 "work_mem = '64MB'" "jit = off" "max_wal_size = '16GB'"

COLUMNS_OF="(tenant bigint NOT NULL, id bigint NOT NULL, class int NOT NULL, place int NOT NULL, amount numeric(10,2), note text)"
TABLES="CREATE TABLE entries $COLUMNS_OF; CREATE TABLE copies $COLUMNS_OF; CREATE TABLE others $COLUMNS_OF;"
sql plain "$TABLES"
sql plain "CREATE SCHEMA parts"
for table in entries:tenant copies:tenant others:id; do
    sql plain "CREATE TABLE parts.${table%:*} $COLUMNS_OF PARTITION BY HASH (${table#*:});
        DO \$\$ BEGIN FOR i IN 0..31 LOOP
            EXECUTE format('CREATE TABLE parts.${table%:*}_%s PARTITION OF parts.${table%:*} FOR VALUES WITH (MODULUS 32, REMAINDER %s)', i, i);
        END LOOP; END \$\$"
done
sql cluster "$TABLES SELECT sharding.distribute_table('entries', 'tenant');
    SELECT sharding.distribute_table('copies', 'tenant', colocate_with => 'entries');
    SELECT sharding.distribute_table('others', 'id');" >/dev/null
DATA=$BASE/data
mkdir -p "$DATA"
chmod 777 "$DATA"
ROWS_OF="SELECT (i::bigint * 7919) % ($ROWS / 10), i::bigint, i % 12, (i * 31) % 100, ((i::bigint * 7919 % 1000003) / 100.0)::numeric(10,2),
    repeat(md5(i::text), 2) FROM generate_series(1, $ROWS) i"
make_files() { # SUFFIX, CONDITION
    local rows="$ROWS_OF WHERE $2"
    sql plain "COPY ($rows) TO '$DATA/rows$1.txt'; COPY ($rows) TO '$DATA/rows$1.csv' (FORMAT csv);
        COPY ($rows) TO '$DATA/rows$1.bin' (FORMAT binary)"
}
make_files '' true
make_files 1 "i <= $ROWS / 2"
make_files 2 "i > $ROWS / 2"
for where in plain cluster; do sql "$where" "COPY entries FROM '$DATA/rows.txt'"; done
sql plain "COPY parts.entries FROM '$DATA/rows.txt'"
for half in 1 2; do
    sql "n$half" "CREATE SCHEMA least; SET search_path = least; $TABLES; COPY entries FROM '$DATA/rows$half.txt'"
done
sql cluster "ANALYZE entries"

# The server of a column, and the schema of its tables. Of "least" there are two halves.
server_of() { case $1 in parts) echo plain ;; least*) echo "n${1#least}" ;; *) echo "$1" ;; esac; }
schema_of() { case $1 in parts) echo parts ;; least*) echo least ;; *) echo public ;; esac; }

as_client() { # COLUMN, psql's arguments...
    local where=$1
    shift
    as_server env PGOPTIONS="-c search_path=$(schema_of "$where")" "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        -d "$(url "$(server_of "$where")")" "$@"
}

milliseconds() { # COLUMN, SQL
    as_client "$1" -o /dev/null -c '\timing on' -c "$2" | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
}

# The two halves of a write at once: the longer time.
halves() { # TABLE, SQL with {half}
    local half jobs=()
    for half in 1 2; do
        as_client "least$half" -c "TRUNCATE $1"
    done
    for half in 1 2; do
        milliseconds "least$half" "${2//\{half\}/$half}" >"$BASE/half$half" &
        jobs+=($!)
    done
    wait "${jobs[@]}"
    sort -n "$BASE"/half[12] | tail -1
}

# The largest size that the coordinator's backend has had, in MB, when it has run a statement.
largest() { # SQL
    as_client cluster -c '\o /dev/null' -c "$1" -c '\o' \
        -c "SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::int / 1024"
}

echo "bulk loads and reads: $(versions)"
echo "$ROWS rows, coordinator and 2 nodes, medians of $ROUNDS interleaved runs, ms"
printf '%-32s | %9s %9s %9s %9s | %8s %8s %8s | %11s\n' work plain parts least cluster 'of plain' 'of parts' 'of least' \
    'memory, MB'

run() { # NAME, TABLE that is written or '', SQL, the same for a tenth of the rows or '', or for {half} of them
    local name=$1 table=$2 statement=$3 tenth=$4 half=${5:-} round where memory='' least=- of_least=-
    [[ $name == *$ONLY* ]] || return 0
    rm -f "$BASE"/*.ms
    for ((round = 1; round <= ROUNDS; round++)); do
        for where in plain parts cluster ${OTHER:+other}; do
            [ -z "$table" ] || as_client "$where" -c "TRUNCATE $table"
            # Of a partitioned table, Postgres copies queries only.
            [ "$where" != parts ] || statement=${statement/COPY entries TO/COPY (TABLE entries) TO}
            milliseconds "$where" "$statement" >>"$BASE/$where.ms"
            statement=$3
        done
        [ -z "$half" ] || halves "$table" "$half" >>"$BASE/least.ms"
    done
    if [ -n "$half" ]; then
        least=$(median <"$BASE/least.ms")
        of_least=$(ratio "$BASE/cluster.ms" "$BASE/least.ms" | xargs printf %.3f)
    fi
    if [ -n "$table" ]; then
        local sums="SELECT count(*), sum(id) FROM $table"
        [ "$(sql plain "$sums")" = "$(sql cluster "$sums")" ] || name="$name DIFFERENT"
    fi
    [ -z "$tenth" ] || memory="$(largest "$tenth") -> $(largest "$statement")"
    printf '%-32s | %9.1f %9.1f %9s %9.1f | %8.3f %8.3f %8s | %11s\n' "$name" "$(median <"$BASE/plain.ms")" \
        "$(median <"$BASE/parts.ms")" "$least" "$(median <"$BASE/cluster.ms")" \
        "$(ratio "$BASE/cluster.ms" "$BASE/plain.ms")" "$(ratio "$BASE/cluster.ms" "$BASE/parts.ms")" "$of_least" "$memory"
    [ -z "$OTHER" ] || printf '%-32s | %9.1f ms, %.3f of plain\n' '  other' "$(median <"$BASE/other.ms")" \
        "$(ratio "$BASE/other.ms" "$BASE/plain.ms")"
}

run 'COPY FROM text' copies "COPY copies FROM '$DATA/rows.txt'" '' \
    "COPY copies FROM '$DATA/rows{half}.txt'"
run 'COPY FROM CSV' copies "COPY copies FROM '$DATA/rows.csv' (FORMAT csv)" '' \
    "COPY copies FROM '$DATA/rows{half}.csv' (FORMAT csv)"
run 'COPY FROM binary' copies "COPY copies FROM '$DATA/rows.bin' (FORMAT binary)" '' \
    "COPY copies FROM '$DATA/rows{half}.bin' (FORMAT binary)"
run 'INSERT ... SELECT colocated' copies "INSERT INTO copies SELECT * FROM entries" '' \
    'INSERT INTO copies SELECT * FROM entries'
run 'INSERT ... SELECT to another key' others "INSERT INTO others SELECT * FROM entries" '' \
    'INSERT INTO others SELECT * FROM entries'
TENTH="id <= $((ROWS / 10))"
run 'SELECT *' '' "SELECT * FROM entries" "SELECT * FROM entries WHERE $TENTH"
run 'COPY TO' '' "COPY entries TO STDOUT" "COPY (SELECT * FROM entries WHERE $TENTH) TO STDOUT"
run 'COPY (SELECT *) TO' '' "COPY (SELECT * FROM entries) TO STDOUT" \
    "COPY (SELECT * FROM entries WHERE $TENTH) TO STDOUT"
run 'COPY (SELECT *) TO CSV' '' "COPY (SELECT * FROM entries) TO STDOUT (FORMAT csv)" \
    "COPY (SELECT * FROM entries WHERE $TENTH) TO STDOUT (FORMAT csv)"
