# Runs one server until told to stop it, or until whoever started this is gone.
#
#   sh supervise.sh POSTGRES FOLDER        FOLDER/data, FOLDER/log; standard input is a pipe
#
# Reads signal names, one a line, and sends them to the server; "END" waits for the server and ends.
# The end of the input means that the test process is gone, even if it was killed: the server is
# stopped at once and FOLDER removed, unless FOLDER/keep exists.

"$1" -D "$2/data" </dev/null >>"$2/log" 2>&1 &
server=$!
echo "$server"

while read -r word; do
    if [ "$word" = END ]; then
        wait "$server"
        exit
    fi
    kill -s "$word" "$server" 2>/dev/null
done

kill -s QUIT "$server" 2>/dev/null
# A stopped postmaster ends its children within 5 seconds (SIGKILL_CHILDREN_AFTER_SECS).
(sleep 15 && kill -s KILL "$server") >/dev/null 2>&1 &
watchdog=$!
wait "$server"
kill "$watchdog" 2>/dev/null
if [ ! -e "$2/keep" ]; then
    rm -rf "$2"
    rmdir "${2%/*}" 2>/dev/null
fi
