#!/usr/bin/env bash
# What a coordinator's backend executes for a point statement, counted: its instructions under valgrind, per statement
# and by library, beside those of a plain server's backend for the same work. Without the kernel, and the node is
# not counted; unlike times, the counts are the same on a busy machine.
#
#   make bench                                 all benchmarks
#   benches/cluster/point_instructions.sh      this one; `PROFILE=release make build` comes first, and Debian's valgrind
#
# KEEP=dir keeps the profiles there, for callgrind_annotate.

# shellcheck source=benches/servers.sh
. "$(dirname "$0")/../servers.sh"

command -v valgrind >/dev/null || die "valgrind is missing; install the package valgrind"
FEW=${FEW:-500}
MANY=${MANY:-2500}
KEEP=${KEEP:-}

start_servers 2
for where in plain cluster; do
    as_server "$PGROOT_BIN/pgbench" -i -q -s 1 -I dtgp "$(url "$where")" >/dev/null 2>&1
done
sql cluster "SELECT sharding.distribute_table('pgbench_accounts', 'aid')" >/dev/null
sql cluster "SELECT sharding.distribute_table('pgbench_history', 'aid')" >/dev/null
PROFILES=$BASE/profiles
mkdir -m 777 "$PROFILES"

# Restarts a server under valgrind, which writes a profile per process.
observe() { # plain | cluster
    local data=$BASE/plain/data
    [ "$1" = plain ] || data=$BASE/cluster/coordinator
    as_server "$PGROOT_BIN/pg_ctl" stop -D "$data" -m fast -w >/dev/null
    as_server valgrind -q --tool=callgrind --trace-children=yes --callgrind-out-file="$PROFILES/%p" \
        "$PGROOT_BIN/postgres" -D "$data" >"$BASE/valgrind.log" 2>&1 &
    for _ in $(seq 60); do
        sql "$1" "SELECT 1" >/dev/null 2>&1 && return
        sleep 1
    done
    die "the server does not start under valgrind; see $BASE/valgrind.log"
}

# The profile of the backend that runs a script so many times.
profile() { # plain | cluster, script, mode, times
    local before after
    before=$(ls "$PROFILES")
    as_server "$PGROOT_BIN/pgbench" -n -c 1 -M "$3" -t "$4" -f "$BASE/$2.sql" "$(url "$1")" >/dev/null 2>&1
    sleep 1
    after=$(ls "$PROFILES")
    # pgbench has a second session, which ends first and does little.
    comm -13 <(echo "$before") <(echo "$after") | while read -r name; do
        echo "$(sed -nE 's/^(summary|totals): //p' "$PROFILES/$name" | head -1) $PROFILES/$name"
    done | sort -n | tail -1 | cut -d' ' -f2
}

# Instructions by library: those of a profile less those of another, divided by the number of statements.
by_library() { # of, less, divisor
    awk -v divisor="$3" '
        FNR == 1 { file++; split("", name) }
        /^c?ob=/ { id = $0; sub(/^c?ob=/, "", id); rest = id; sub(/ .*/, "", id)
                   if (rest ~ / /) { sub(/^[^ ]* /, "", rest); sub(/.*\//, "", rest); name[id] = rest }
                   if (/^ob=/) library = name[id] }
        /^calls=/ { called = 1; next }
        /^[0-9+*-]/ && NF > 1 { if (called) { called = 0; next } sum[library] += (file == 1 ? $2 : -$2); total += (file == 1 ? $2 : -$2) }
        END { for (l in sum) { n = sum[l] / divisor
                  if (l ~ /^postgres/) postgres += n; else if (l ~ /sharding/) sharding += n; else other += n }
              printf "%7d %9d %9d %7d", total / divisor, postgres, sharding, other }' "$1" "$2"
}

cat >"$BASE/select.sql" <<'SQL'
\set aid random(1, 100000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SQL
cat >"$BASE/update.sql" <<'SQL'
\set aid random(1, 100000)
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SQL
cat >"$BASE/insert.sql" <<'SQL'
\set aid random(1, 100000)
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, CURRENT_TIMESTAMP);
SQL
chmod 644 "$BASE"/*.sql

echo "point statements: $(versions), instructions of the backend per statement"
printf '%-18s %-8s | %7s %9s %9s %7s\n' work server all postgres extension other
for where in plain cluster; do
    observe "$where"
    for work in 'select prepared' 'select simple' 'update prepared' 'insert prepared'; do
        read -r script mode <<<"$work"
        # Plans and statements are prepared on all shards first.
        profile "$where" "$script" "$mode" 200 >/dev/null
        few=$(profile "$where" "$script" "$mode" "$FEW")
        many=$(profile "$where" "$script" "$mode" "$MANY")
        printf '%-18s %-8s | %s\n' "$script, $mode" "$where" "$(by_library "$many" "$few" $((MANY - FEW)))"
        if [ -n "$KEEP" ]; then
            mkdir -p "$KEEP"
            cp "$many" "$KEEP/$where-$script-$mode"
        fi
    done
done
