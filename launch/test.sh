#!/usr/bin/env bash
# The tests: the quickstart's set-up plus test extras, then pytest.
#   bash launch/test.sh [PYTEST ARGUMENTS...]   without arguments: everything but the slow tests
#   bash launch/test.sh --compat [...]          the compat tests, against the oldest supported JAX
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PARALLEL="--numprocesses=auto --maxprocesses=4 --dist=loadfile" # a file's tests stay together: they share programs

if [ "${1:-}" = --compat ]; then
    shift
    environment="$ROOT/.cache/venv-oldest"
    prepare "$environment" requirements-oldest.txt "$TEST_EXTRAS"
    set -- -m "compat and not slow" $PARALLEL "$@"
else
    environment="$ROOT/.venv"
    prepare "$environment" requirements.lock "$TEST_EXTRAS"
    [ $# -gt 0 ] || set -- -m "not slow" $PARALLEL
fi

cd "$ROOT"
exec "$environment/bin/python" -m pytest "$@"
