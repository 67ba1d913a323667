"""One run as several processes: how they find each other, which one is the first, and what all of them agree on.

What starts them says so in the environment (see launch/): JAX_PRUNE_COORDINATOR, the first process's HOST:PORT, with
JAX_PRUNE_PROCESSES and JAX_PRUNE_PROCESS; or ``auto``, where JAX finds the others itself, as on a Cloud TPU pod. All
processes compute the same; the first one alone reads and writes the run's folder, and tells the others what it holds.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping
from typing import Any

from jax_prune.errors import BadInput, said

COORDINATOR, PROCESSES, PROCESS = "JAX_PRUNE_COORDINATOR", "JAX_PRUNE_PROCESSES", "JAX_PRUNE_PROCESS"
AUTO = "auto"
PATIENCE = 24 * 3600  # seconds that one process waits for the others, which compute the same
_meeting = itertools.count()  # the same in all processes: a place where they wait needs a name of its own


def start(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes where the environment names a coordinator; before JAX's first computation.

    Raises BadInput for settings that do not read, and where the others cannot be found.
    """
    settings = _settings(environment)
    if settings is None:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(**settings)
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"cannot join the other processes by {COORDINATOR}: {said(error)}") from error


def count() -> int:
    """How many processes this run has."""
    return sys.modules["jax"].process_count() if _joined() else 1


def is_first() -> bool:
    """Whether this process is the one that reads, writes and prints; True where there is one alone."""
    return not _joined() or sys.modules["jax"].process_index() == 0


def agreed(data: bytes) -> bytes:
    """The first process's ``data``, in all of them; all must call it, and wait here for each other."""
    if count() == 1:
        return data
    import numpy as np
    from jax._src.distributed import global_state  # JAX has no public way to wait: its collectives give up after 30 s
    from jax.experimental import multihost_utils

    client: Any = global_state.client
    client.wait_at_barrier(f"jax_prune/{next(_meeting)}", timeout_in_ms=PATIENCE * 1000)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    sent = np.zeros(length, np.uint8)
    if is_first():
        sent[:] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(sent), np.uint8).tobytes()


def leave(status: int) -> None:
    """Ends this process at once where it has failed: JAX would let it wait minutes for the others, and them for it."""
    if status and count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _joined() -> bool:
    # where jax was never imported nobody can have joined anything; importing it takes seconds
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def _settings(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of ``jax.distributed.initialize``, or None for one process alone."""
    address = environment.get(COORDINATOR, "")
    if not address:
        return None
    if address == AUTO:
        return {}
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"{COORDINATOR} is '{address}': give HOST:PORT of the first process, or {AUTO}")
    processes, process = (_number(environment, name) for name in (PROCESSES, PROCESS))
    if not 0 <= process < processes:
        raise BadInput(f"{PROCESS} is {process} of {PROCESSES} {processes}: number the processes from 0")
    return {"coordinator_address": address, "num_processes": processes, "process_id": process}


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise BadInput(f"{name} is '{text}': give a whole number beside {COORDINATOR}")
    return int(text)
