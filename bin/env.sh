# shellcheck shell=sh disable=SC2154
# Sourced by the scripts beside it, which set $bin to this directory. Gives $root (the checkout), $venv, and
#
#   prepare run    makes $venv ready: the project and what it runs on
#   prepare tool   the same, but compiles nothing: nobody who looks after a server in need waits for that
#   prepare dev    as run, and what its checks and tests need
#
# The stamps $venv/.ready-run and .ready-dev are written last and hold the fingerprint of what was asked for. Without a
# stamp of today's fingerprint $venv is half-made, outdated or moved, and is made anew.
# PYTHON=/path/to/python chooses the Python; without it, the $venv there is serves.

root=$(dirname -- "$bin")
venv=$root/.venv

say() {
    printf 'workq: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

# Prints the real path of a Python that is new enough. A name that is found may still not run: version managers leave
# shims for Pythons that are switched off.
find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.13 python3.12 python3.11 python3; fi
    too_old=
    for candidate; do
        answer=$("$candidate" -c '
import os, sys
print(os.path.realpath(sys.executable) if sys.version_info >= (3, 11) else sys.version.split()[0])' 2>/dev/null) ||
            continue
        case $answer in
        /*) printf '%s\n' "$answer" && return ;;
        *) too_old=" ($candidate is $answer)" ;;
        esac
    done
    say "no Python 3.11 or newer found; tried: $*$too_old"
    die "install one, or say where one is: PYTHON=/path/to/python3.12 $0"
}

fingerprint() {
    { printf '%s\n' "$root" && cat "$root/setup.cfg" "$root/pyproject.toml"; } | cksum
}

# Compiled modules lie beside their sources and win over them, so they must not be older than these.
sources() {
    (cd "$root" && find setup.py workq -name '*.py' -print | LC_ALL=C sort | xargs cat) | cksum
}

remove_compiled() {
    find "$root/workq" "$root/workq__mypyc"*.so -name '*.so' -exec rm -f {} + 2>/dev/null || :
    rm -f "$venv/.compiled"
}

note_compiled() {
    [ "${WORKQ_PURE:-}" != 1 ] || return 0
    sources >"$venv/.compiled"
    set -- "$root"/workq/engine/*.so
    [ -e "$1" ] || say "not compiled (see $venv/pip.log): runs as pure Python, at about half the speed"
}

is_compiled() {
    [ -e "$venv/.compiled" ] && [ "$(cat "$venv/.compiled")" = "$(sources)" ]
}

compile() {
    if [ "${WORKQ_PURE:-}" = 1 ] || is_compiled; then return; fi
    python=$venv/bin/python
    lock
    if ! is_compiled; then
        say "compiling the sources, takes a few minutes (WORKQ_PURE=1 does without)"
        remove_compiled
        install . || :
        note_compiled
    fi
    exec 9>&-
}

ready() {
    [ "$(cat "$venv/.ready-$1" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/python" ] &&
        { [ -z "${PYTHON:-}" ] || [ "$(readlink -f "$venv/bin/python")" = "$python" ]; }
}

# Waits until no other start is making $venv ready; descriptor 9 holds the lock until it is closed.
lock() {
    exec 9>"$venv.lock"
    "$python" -c '
import fcntl, sys
try:
    fcntl.flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("workq: waiting for another start that is setting up", file=sys.stderr)
    fcntl.flock(0, fcntl.LOCK_EX)' <&9
}

make_venv() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python has no venv module; on Debian and Ubuntu it comes with: apt install python3-venv"
    output=$("$python" -m venv --clear "$venv" 2>&1) || die "cannot make $venv: $output"
}

install() {
    (cd "$root" && "$venv/bin/python" -m pip install --verbose --disable-pip-version-check --retries 2 -e "$1") \
        >"$venv/pip.log" 2>&1
}

prepare() {
    if [ "$1" = tool ]; then
        is_compiled || export WORKQ_PURE=1 # what was compiled of other sources is passed over
        set -- run
    fi
    if [ -n "${PYTHON:-}" ]; then python=$(find_python) || exit; fi
    wanted=$(fingerprint)
    if ready "$1"; then
        compile
        return
    fi

    if [ -z "${PYTHON:-}" ]; then python=$(find_python) || exit; fi
    lock
    if ready "$1"; then exec 9>&- && return; fi # another start did it
    time="a minute"
    if [ "${WORKQ_PURE:-}" != 1 ] && command -v "${CC:-cc}" >/dev/null; then
        time="a few minutes, as it compiles the sources (WORKQ_PURE=1 does without),"
    fi
    say "setting up $venv with $python; takes $time and needs the network, this once"
    if ready run; then had_run=yes; else had_run= && remove_compiled && make_venv; fi

    rm -f "$venv/.ready-run" "$venv/.ready-dev"
    if [ "$1" = dev ]; then what=".[dev]"; else what=.; fi
    if ! install "$what"; then
        [ -z "$had_run" ] || printf '%s\n' "$wanted" >"$venv/.ready-run" # pip leaves all as it was
        if grep -q 'connection broken by' "$venv/pip.log"; then
            say "the Python package index cannot be reached; is the network there?"
        else
            say "pip failed: $(grep -i '^ *error' "$venv/pip.log" | tail -n 1)"
        fi
        die "all that pip said is in $venv/pip.log"
    fi
    note_compiled
    [ "$1" = run ] || printf '%s\n' "$wanted" >"$venv/.ready-dev"
    printf '%s\n' "$wanted" >"$venv/.ready-run"
    exec 9>&-
}
