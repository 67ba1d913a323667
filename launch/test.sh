#!/usr/bin/env bash
# The tests: the quickstart's set-up plus test extras, then pytest.
#   bash launch/test.sh [PYTEST ARGUMENTS...]   without arguments: everything but the slow tests
#   bash launch/test.sh --compat [...]          the compat tests, against the oldest supported JAX
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PARALLEL="--numprocesses=auto --maxprocesses=4 --dist=loadfile" # a file's tests stay together: they share programs

# pytest with programs that compile in a third of the time and run slower; most tests wait for the compiler.
quick() {
    local flags="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    # XLA aborts at flags that it does not know
    XLA_FLAGS="$flags" "$environment/bin/python" -c "import jax; jax.devices()" 2>/dev/null || flags=""
    XLA_FLAGS="$flags" "$environment/bin/python" -m pytest $PARALLEL "$@"
}

cd "$ROOT"
if [ "${1:-}" = --compat ]; then
    shift
    environment="$ROOT/.cache/venv-oldest"
    prepare "$environment" requirements-oldest.txt "$TEST_EXTRAS"
    quick -m "compat and not slow" "$@"
    exit
fi
environment="$ROOT/.venv"
prepare "$environment" requirements.lock "$TEST_EXTRAS"
if [ $# -eq 0 ]; then
    quick -m "not slow and not optimized"
    set -- -m "optimized and not slow" $PARALLEL # where bits or seconds count: programs as users have them
fi
exec "$environment/bin/python" -m pytest "$@"
