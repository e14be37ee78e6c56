#!/usr/bin/env bash
# What a session costs that runs one statement and ends (pgbench -C), on a coordinator with two nodes and on one plain
# server, in turn (A B A B ...): processor time of the server's processes per session, without the nodes', which keep
# their sessions.
#
#   make bench                       all benchmarks
#   benches/cluster/sessions.sh      this one; `PROFILE=release make build` comes first
#
# ROUNDS and SESSIONS (of each run) may be set.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

ROUNDS=${ROUNDS:-5}
SESSIONS=${SESSIONS:-200}

start_servers 2
for where in plain cluster; do
    as_server "$PGROOT_BIN/pgbench" -i -q -s 1 -I dtgp "$(url "$where")" >/dev/null 2>&1
done
sql cluster "SELECT sharding.distribute_table('pgbench_accounts', 'aid')" >/dev/null

script() { # NAME < text
    { echo '\set aid random(1, 100000)'; cat; } >"$BASE/$1.sql"
    chmod 644 "$BASE/$1.sql"
}
script nothing <<<'SELECT 1;'
script select <<<'SELECT abalance FROM pgbench_accounts WHERE aid = :aid;'
script update <<<'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;'

# Processor time of a server and its processes, ended or not, in clock ticks.
ticks() { # plain | cluster
    local data=$BASE/plain/data postmaster own
    [ "$1" = plain ] || data=$BASE/cluster/coordinator
    sleep 0.5 # the last session ends
    postmaster=$(as_server head -1 "$data/postmaster.pid")
    own=$(sed 's/.*) //' "/proc/$postmaster/stat" | awk '{ print $12 + $13 + $14 + $15 }')
    echo $((own + $(sed 's/.*) //' /proc/[0-9]*/stat 2>/dev/null |
        awk -v parent="$postmaster" '$2 == parent { sum += $12 + $13 } END { print sum + 0 }')))
}

# Appends microseconds of processor time per session.
measure() { # plain | cluster, script
    local before output
    before=$(ticks "$1")
    output=$(as_server "$PGROOT_BIN/pgbench" -n -C -c 1 -t "$SESSIONS" -f "$BASE/$2.sql" "$(url "$1")" 2>&1) || true
    awk -v ticks=$(($(ticks "$1") - before)) -v hz="$(getconf CLK_TCK)" -v sessions="$SESSIONS" \
        'BEGIN { print ticks / hz * 1e6 / sessions }' >>"$BASE/$1.cpu"
    # A failure must not look like speed.
    grep -E 'aborted|ERROR|FATAL' <<<"$output" | head -2 >&2 || true
}

echo "new sessions: $(versions)"
printf '%-28s | %9s %9s %6s\n' "processor time, us/session" plain cluster ratio
for work in nothing select update; do
    for ((round = 0; round <= ROUNDS; round++)); do
        for where in plain cluster; do
            measure "$where" "$work"
        done
        # The first round warms up.
        [ "$round" != 0 ] || rm -f "$BASE"/*.cpu
    done
    printf '%-28s | %9.0f %9.0f %6.2f\n' "$work" "$(median <"$BASE/plain.cpu")" "$(median <"$BASE/cluster.cpu")" \
        "$(ratio "$BASE/cluster.cpu" "$BASE/plain.cpu")"
    rm -f "$BASE"/*.cpu
done
