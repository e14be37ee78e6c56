#!/usr/bin/env bash
# What consistent reads cost: a coordinator with two nodes, reads of both nodes while transfers between them
# commit in two phases, and single-node writes, under each setting of sharding.consistent_reads in turn, medians.
#
#   make bench                              all benchmarks
#   benches/cluster/consistent_reads.sh     this one; `PROFILE=release make build` comes first
#
# The transfers keep a rate that leaves the machine time for reads, so that the reads, and not the transfers, show
# the difference. ROUNDS, DURATION (seconds), CLIENTS, WRITERS and RATE (transfers per second) may be set.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-7}
DURATION=${DURATION:-5}
CLIENTS=${CLIENTS:-4}
WRITERS=${WRITERS:-4}
RATE=${RATE:-200}

start_servers 2
sql cluster "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
    SELECT sharding.distribute_table('account', 'id');
    INSERT INTO account SELECT i, 1000 FROM generate_series(1, 1000) i;
    ANALYZE account" >/dev/null

script() { # NAME < text
    { echo '\set from random(1, 500)'; echo '\set to random(501, 1000)'; cat; } >"$BASE/$1.sql"
    chmod 644 "$BASE/$1.sql"
}
script read <<'SQL'
SELECT sum(balance) FROM account;
SQL
script write <<'SQL'
UPDATE account SET balance = balance + 1 WHERE id = :from;
SQL
script transfer <<'SQL'
BEGIN;
UPDATE account SET balance = balance - 1 WHERE id = :from;
UPDATE account SET balance = balance + 1 WHERE id = :to;
END;
SQL

# One run of $2 under setting $1: appends its transactions per second.
measure() { # setting, script
    local url output
    url="$(url cluster)?options=-c%20sharding.consistent_reads%3D$1"
    output=$(as_server "$PGROOT_BIN/pgbench" -n -T "$DURATION" -c "$CLIENTS" -j 1 -M prepared -f "$BASE/$2.sql" "$url" 2>&1)
    sed -nE 's/^tps = ([0-9.]+).*/\1/p' <<<"$output" >>"$BASE/$2.$1"
}

transfers() { # setting
    local url
    url="$(url cluster)?options=-c%20sharding.consistent_reads%3D$1"
    as_server "$PGROOT_BIN/pgbench" -n -T "$((DURATION + 1))" -R "$RATE" -c "$WRITERS" -j 1 -M prepared -f "$BASE/transfer.sql" \
        "$url" >"$BASE/transfers.log" 2>&1
}

echo "consistent reads: $(versions)"
echo "sum over two nodes, $CLIENTS clients, $RATE transfers per second between them by $WRITERS others; single-node"
echo "updates, $CLIENTS clients; -T $DURATION, medians of $ROUNDS, fsync off"
for ((round = 1; round <= ROUNDS; round++)); do
    for setting in off transactions snapshot; do
        transfers "$setting" &
        writers=$!
        sleep 0.5
        measure "$setting" read
        wait "$writers"
        measure "$setting" write
    done
done
printf '%-14s | %8s %6s | %8s %6s\n' consistent_reads 'reads/s' ratio 'writes/s' ratio
for setting in off transactions snapshot; do
    printf '%-14s | %8.0f %6.3f | %8.0f %6.3f\n' "$setting" \
        "$(median <"$BASE/read.$setting")" "$(ratio "$BASE/read.$setting" "$BASE/read.off")" \
        "$(median <"$BASE/write.$setting")" "$(ratio "$BASE/write.$setting" "$BASE/write.off")"
done
