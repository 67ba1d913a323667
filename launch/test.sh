#!/usr/bin/env bash
# The tests: the quickstart's set-up plus test extras, then pytest.
#   bash launch/test.sh [PYTEST ARGUMENTS...]   without arguments: everything but the slow tests
#   bash launch/test.sh --compat [...]          the compat tests, against the oldest supported JAX
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PARALLEL="--numprocesses=auto --maxprocesses=4 --dist=loadfile" # a file's tests stay together: they share programs
# Most tests wait for the compiler: with these it takes a third. Tests marked 'optimized' have programs as users have them.
QUICK="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

if [ "${1:-}" = --compat ]; then
    shift
    environment="$ROOT/.cache/venv-oldest"
    prepare "$environment" requirements-oldest.txt "$TEST_EXTRAS"
    set -- -m "compat and not slow" $PARALLEL "$@"
else
    environment="$ROOT/.venv"
    prepare "$environment" requirements.lock "$TEST_EXTRAS"
fi

cd "$ROOT"
if [ $# -eq 0 ]; then
    XLA_FLAGS="$QUICK" "$environment/bin/python" -c 'import jax; jax.devices()' 2>/dev/null || QUICK="" # XLA stops at unknown flags
    XLA_FLAGS="$QUICK" "$environment/bin/python" -m pytest -m "not slow and not optimized" $PARALLEL
    set -- -m "optimized and not slow" $PARALLEL
fi
exec "$environment/bin/python" -m pytest "$@"
