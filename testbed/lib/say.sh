# Messages: what the testbed is doing, in plain words, on standard error.
# Standard output belongs to the command that was asked for.

say()  { printf '%s\n' "==> $*" >&2; }
note() { printf '%s\n' "    $*" >&2; }
warn() { printf '%s\n' "!!! $*" >&2; }
die()  { printf '%s\n' "testbed: $*" >&2; exit 1; }

# quietly LOG CMD…: runs CMD with its output in LOG; shows the end of it only on failure.
quietly() {
    local log=$1 rc=0
    shift
    mkdir -p "${log%/*}"
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    if ((rc)); then
        warn "failed ($rc): $*"
        tail -n 40 "$log" >&2
        warn "the whole output: $log"
    fi
    return "$rc"
}
