# Shared by the launch scripts, sourced: find Python, make the environment once, install from the lock.
# PYTHON names the interpreter to build with; it is looked for where PYTHON is not set.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
    echo "$(basename "$0"): error: $*" >&2
    exit 2
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a program"
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON does not run as Python 3.11 or newer; name one that does"
        return
    fi
    local candidate
    for candidate in python3 python python3.13 python3.12 python3.11 python3.14; do
        if is_new_enough "$candidate"; then
            PYTHON="$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer, and found $(python3 --version 2>/dev/null || echo none);" \
        "install it, or name it: PYTHON=/path/to/python3.11 bash $0"
}

# What the environment is made from: it is brought up to date when any of this changes.
digest() { # digest LOCK EXTRAS
    "$PYTHON" - "$ROOT" "$1" "$2" <<'PY'
import hashlib, pathlib, sys

root, lock, extras = sys.argv[1:]
parts = [pathlib.Path(root, name).read_bytes() for name in (lock, "setup.py")] + [root.encode(), extras.encode()]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
PY
}

# Makes FOLDER an environment; one that this made before is kept, and one that somebody else made is left alone.
make_environment() { # make_environment FOLDER
    if [ -e "$1" ] && [ ! -e "$1/.jax-prune" ]; then
        fail "$1 is not of this script's making (or its making was cut short); move or delete it and run again"
    fi
    if "$1/bin/python" -c '' 2>/dev/null; then
        return
    fi
    rm -rf "$1"
    trap 'rm -rf "'"$1"'"' EXIT # an interrupted making leaves nothing that the next run would trip over
    if ! { command -v uv >/dev/null && uv venv --quiet --python "$PYTHON" "$1"; }; then
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$PYTHON lacks the venv module; install it (Debian, Ubuntu: apt-get install python3-venv) or uv"
        "$PYTHON" -m venv "$1" || fail "cannot make $1: see the lines above"
    fi
    echo unfinished >"$1/.jax-prune"
    trap - EXIT
}

# "compat" puts the repository itself on the path: the default import hook loses to a folder called jax_prune, as a
# clone is, in the current directory.
EDITABLE="--config-settings editable_mode=compat --editable"

# Runs uv in the environment where uv is installed, and pip elsewhere or where uv cannot reach its index.
install() { # install FOLDER ARGUMENTS...
    local folder="$1"
    shift
    if command -v uv >/dev/null && uv pip install --quiet --python "$folder/bin/python" "$@"; then
        return
    fi
    [ -x "$folder/bin/pip" ] || "$PYTHON" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

# The environment FOLDER with jax-prune and EXTRAS at the versions of LOCK; quick where it is there already.
prepare() { # prepare FOLDER LOCK EXTRAS
    local folder="$1" lock="$2" extras="$3" have stamp
    find_python
    have="$(cat "$folder/.jax-prune" 2>/dev/null || true)"
    # An environment with more in it serves too: the quickstart runs in the one that the tests made.
    for stamp in "$(digest "$lock" "$TEST_EXTRAS")" "$(digest "$lock" "$extras")"; do
        if [ "$have" = "$stamp" ] && "$folder/bin/python" -c '' 2>/dev/null; then
            return
        fi
    done
    mkdir -p "$(dirname "$folder")" && [ -w "$(dirname "$folder")" ] ||
        fail "cannot write $(dirname "$folder"); copy the repository to a folder of your own"
    make_environment "$folder"
    echo "installing jax-prune[$extras] into $folder (some minutes, once)"
    if ! install "$folder" --constraint "$ROOT/$lock" $EDITABLE "$ROOT[$extras]"; then
        echo "note: $lock does not suit $("$PYTHON" --version); installing by version ranges instead" >&2
        install "$folder" $EDITABLE "$ROOT[$extras]" ||
            fail "installation failed: see the lines above (is a package index within reach?)"
    fi
    digest "$lock" "$extras" >"$folder/.jax-prune"
}

QUICKSTART_EXTRAS="data,report"
TEST_EXTRAS="data,report,test"
