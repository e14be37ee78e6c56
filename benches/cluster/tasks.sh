#!/usr/bin/env bash
# A node's part of a scan in several tasks (sharding.max_tasks_per_node): a coordinator with two nodes, with 1, 2 and 4
# tasks per node in turn (1 2 4 1 2 4 ...), medians of the milliseconds that psql measures.
#
#   make bench                   all benchmarks
#   benches/cluster/tasks.sh     this one; `PROFILE=release make build` comes first
#
# ROWS (1 million) rows of about 100 bytes in 6 columns; what is read goes to a psql whose output is /dev/null. Coordinator
# and nodes share this machine: where they have all its processors at work already, there is nothing to gain. ROUNDS and
# TASKS may be set; ONLY is a pattern for names of work. All data fit into memory. Everything is removed at the end.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
ROWS=${ROWS:-1000000}
ONLY=${ONLY:-}
TASKS=${TASKS:-1 2 4}

start_servers 2 "work_mem = '64MB'" "jit = off" "max_wal_size = '16GB'"
sql cluster "CREATE TABLE entries (tenant bigint NOT NULL, id bigint NOT NULL, class int NOT NULL, place int NOT NULL,
        amount numeric(10,2), note text);
    SELECT sharding.distribute_table('entries', 'tenant');
    INSERT INTO entries SELECT (i::bigint * 7919) % ($ROWS / 10), i::bigint, i % 12, (i * 31) % 100,
        ((i::bigint * 7919 % 1000003) / 100.0)::numeric(10,2), repeat(md5(i::text), 2) FROM generate_series(1, $ROWS) i;
    ANALYZE entries" >/dev/null

with_tasks() { # TASKS, arguments of psql...
    local tasks=$1
    shift
    as_server env PGOPTIONS="-c sharding.max_tasks_per_node=$tasks" "$PGROOT_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        -d "$(url cluster)" "$@"
}

milliseconds() { # TASKS, SQL; the second of two, when connections are open
    with_tasks "$1" -o /dev/null -c "$2" -c '\timing on' -c "$2" | sed -nE 's/^Time: ([0-9.]+) ms.*/\1/p'
}

echo "tasks per node: $(versions)"
echo "$ROWS rows, coordinator and 2 nodes on $(nproc) processors, medians of $ROUNDS interleaved runs, ms"
printf '%-24s |' work
for tasks in $TASKS; do printf ' %10s' "$tasks"; done
printf ' | of the first\n'

run() { # NAME, SQL
    local name=$1 statement=$2 round tasks
    [[ $name == *$ONLY* ]] || return 0
    rm -f "$BASE"/*.ms
    for ((round = 1; round <= ROUNDS; round++)); do
        for tasks in $TASKS; do milliseconds "$tasks" "$statement" >>"$BASE/$tasks.ms"; done
    done
    printf '%-24s |' "$name"
    for tasks in $TASKS; do printf ' %10.1f' "$(median <"$BASE/$tasks.ms")"; done
    printf ' |'
    for tasks in $TASKS; do printf ' %.3f' "$(ratio "$BASE/$tasks.ms" "$BASE/${TASKS%% *}.ms")"; done
    printf '\n'
}

run 'SELECT *' "SELECT * FROM entries"
run 'COPY TO' "COPY entries TO STDOUT"
run 'SELECT of few bytes' "SELECT id FROM entries WHERE amount > 5000 AND note LIKE '%abc%'"
run 'count(*)' "SELECT count(*) FROM entries"
run 'GROUP BY' "SELECT class, count(*), sum(amount), avg(amount) FROM entries GROUP BY class"
