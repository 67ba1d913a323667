#!/usr/bin/env bash
# The main job on a fresh machine: prunes LeNet-300-100 on MNIST and says what it gained.
#   bash launch/quickstart.sh [WORKDIR] [FLAGS...]     default WORKDIR: runs/quickstart beside this repository's files
# FLAGS go to 'jax-prune layerwise' (see --help), for example --config.net=lenet5 or --smoke.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

workdir="$ROOT/runs/quickstart"
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    workdir="$1"
    shift
fi

prepare "$ROOT/.venv" requirements.lock "$QUICKSTART_EXTRAS"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$ROOT/.cache/jax}"
exec "$ROOT/.venv/bin/jax-prune" layerwise --workdir="$workdir" "$@"
