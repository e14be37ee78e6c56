#!/usr/bin/env bash
# Queries over all rows: a coordinator with two nodes against one plain server that holds all the data,
# same build and settings, in turn (A B A B ...), medians of the milliseconds that psql measures.
#
#   make bench                       all benchmarks
#   benches/cluster/analytics.sh     this one; `PROFILE=release make build` comes first
#
# The table has ROWS (2 million) rows of about 100 bytes in 6 columns, some 10 for each value of the
# shard key, 100 for a few.
# Each line also names the tier that EXPLAIN shows. ROUNDS may be set; ONLY is a pattern for names of work;
# OTHER is the URL of a further server with the same tables, for a further column. All data fit into memory
# and fsync is off: the disk would hide what is measured. Everything is removed at the end.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
ROWS=${ROWS:-2000000}
ONLY=${ONLY:-}

start_servers 2 "work_mem = '64MB'" "jit = off"

TABLES="CREATE TABLE entries (tenant bigint NOT NULL, id bigint NOT NULL, class int NOT NULL, place int NOT NULL,
        amount numeric(10,2), note text, PRIMARY KEY (tenant, id));
    CREATE TABLE tenants (tenant bigint PRIMARY KEY, segment int NOT NULL);
    CREATE TABLE places (place int PRIMARY KEY, name text NOT NULL);"
ROWS_OF="INSERT INTO places SELECT i, 'place ' || i FROM generate_series(0, 99) i;
    INSERT INTO tenants SELECT i, i % 7 FROM generate_series(0, $ROWS / 10) i;
    INSERT INTO entries SELECT CASE WHEN i % 20 = 0 THEN i / 20 % 1000 ELSE (i::bigint * 7919) % ($ROWS / 10) END, i, i % 12, (i * 31) % 100,
        (i::bigint * 7919 % 1000003) / 100.0, repeat(md5(i::text), 2) FROM generate_series(1, $ROWS) i;"
sql plain "$TABLES $ROWS_OF"
sql cluster "$TABLES SELECT sharding.distribute_table('entries', 'tenant');
    SELECT sharding.distribute_table('tenants', 'tenant', colocate_with => 'entries');
    SELECT sharding.replicate_table('places');" >/dev/null
sql cluster "$ROWS_OF"
for where in plain n1 n2; do
    sql "$where" "VACUUM (ANALYZE, FREEZE)"
    sql "$where" "CHECKPOINT"
done
for table in entries tenants places; do sql cluster "ANALYZE $table"; done

SERVERS="plain cluster${OTHER:+ other}"
milliseconds() { # server, SQL
    as_server "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$(url "$1")" -o /dev/null \
        -c '\timing on' -c "$2" | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
}

echo "queries over all rows: $(versions)"
echo "$ROWS rows, coordinator and 2 nodes, medians of $ROUNDS interleaved runs, ms"
printf '%-44s | %9s %9s %6s | %s\n' work plain cluster ratio tier

run() { # NAME, SQL
    local name=$1 query=$2 round where tier
    [[ $name == *$ONLY* ]] || return 0
    rm -f "$BASE"/*.ms
    for where in $SERVERS; do milliseconds "$where" "$query" >/dev/null; done
    for ((round = 1; round <= ROUNDS; round++)); do
        for where in $SERVERS; do milliseconds "$where" "$query" >>"$BASE/$where.ms"; done
    done
    tier=$(sql cluster "EXPLAIN $query" | sed -nE 's/^ *Tier: //p' | sort -u | paste -sd, -)
    [ "$(sql plain "$query" | sort | md5sum)" = "$(sql cluster "$query" | sort | md5sum)" ] || tier="$tier, DIFFERENT"
    printf '%-44s | %9.1f %9.1f %6.3f | %s' "$name" "$(median <"$BASE/plain.ms")" "$(median <"$BASE/cluster.ms")" \
        "$(echo "$(median <"$BASE/cluster.ms") $(median <"$BASE/plain.ms")" | awk '{ print $1 / $2 }')" "$tier"
    [ -z "$OTHER" ] || printf ' | other %.1f' "$(median <"$BASE/other.ms")"
    echo
}

run 'count(*)' "SELECT count(*) FROM entries"
run 'sum, avg, count GROUP BY few values' \
    "SELECT class, sum(amount), avg(amount), count(*) FROM entries GROUP BY class"
run 'GROUP BY key HAVING count(*) ORDER BY key' \
    "SELECT tenant, count(*) FROM entries GROUP BY tenant HAVING count(*) > 50 ORDER BY tenant"
run 'ORDER BY not indexed, id LIMIT 10' "SELECT * FROM entries ORDER BY amount, id LIMIT 10"
run 'count(DISTINCT key)' "SELECT count(DISTINCT tenant) FROM entries"
run 'count(DISTINCT unique column)' "SELECT count(DISTINCT id) FROM entries"
run 'join on the key GROUP BY column of second' \
    "SELECT t.segment, count(*), sum(e.amount) FROM entries e JOIN tenants t USING (tenant) GROUP BY t.segment"
run 'join with reference table GROUP BY its name' \
    "SELECT p.name, count(*), sum(e.amount) FROM entries e JOIN places p USING (place) GROUP BY p.name"
run 'filtered count, min, max (6 % of rows)' \
    "SELECT count(*), min(amount), max(amount) FROM entries WHERE place < 6"
run 'ORDER BY not indexed, all rows' "SELECT id, amount FROM entries ORDER BY amount, id"
run 'deviations GROUP BY few values' \
    "SELECT class, stddev(amount), variance(place), count(*) FROM entries GROUP BY class"
