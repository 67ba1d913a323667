#!/usr/bin/env bash
# Writes requirements.lock anew: the newest versions that fit setup.py, resolved by pip in a clean environment.
#   PYTHON=python3.11 bash launch/lock.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

find_python
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
"$PYTHON" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed \
    --report "$scratch/report.json" "$ROOT[$TEST_EXTRAS]"
"$PYTHON" - "$scratch/report.json" "$ROOT/requirements.lock" <<'PY'
import json, pathlib, re, sys

report, lock = map(pathlib.Path, sys.argv[1:])
found = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
pins = {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in found}
del pins["jax-prune"]
head = [line for line in lock.read_text().splitlines() if line.startswith("#")]
lock.write_text("\n".join([*head, *(f"{name}=={version}" for name, version in sorted(pins.items()))]) + "\n")
PY
