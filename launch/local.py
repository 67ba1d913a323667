"""Starts a study as several processes of this machine, which search together.

    python launch/local.py --processes=2 layerwise --workdir=runs/two --config.net=lenet5

Every line that a process writes gets its number in front. When one fails, or Ctrl-C comes, all are stopped.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

from common import absl_flags, at_least, check, distributed, main, new_flags, split

GRACE = 5.0  # seconds from the request to stop to SIGKILL: one that waits for its peers does not hear requests
LOOK = 0.05  # seconds between two looks at the processes


def launch(arguments: list[str]) -> int:
    """Starts what ``arguments`` say, or prints it; gives the exit status of the first process that failed."""
    values = new_flags()
    absl_flags.DEFINE_integer("processes", 2, "how many processes", flag_values=values)
    absl_flags.DEFINE_integer("port", 0, "where they meet on 127.0.0.1; 0: one that is free", flag_values=values)
    study = split(values, arguments, "local.py", (__doc__ or "").strip())
    if study is None:
        return 0
    commands = commands_of(study, at_least(values, "processes", 1), at_least(values, "port", 0) or free_port())
    check(study)
    if values.dry_run:
        print("\n".join(map(shlex.join, commands)))
        return 0
    return together(commands)


def commands_of(study: Sequence[str], processes: int, port: int) -> list[list[str]]:
    """One command a process."""
    shared = [f"{distributed.COORDINATOR}=127.0.0.1:{port}", f"{distributed.PROCESSES}={processes}"]
    python = [sys.executable, "-m", "jax_prune", *study]
    return [["env", *shared, f"{distributed.PROCESS}={number}", *python] for number in range(processes)]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def together(commands: Sequence[Sequence[str]]) -> int:
    """Runs all to their ends; the first failure ends the rest. 128 + N where a signal N ended it, as in a shell."""
    with stopped_by_signals(), contextlib.ExitStack() as stack:
        processes = []
        for number, command in enumerate(commands):
            processes.append(started(command))
            stack.callback(stop, processes, signal.SIGTERM)  # also where a later one cannot be started
            for source, sink in ((processes[-1].stdout, sys.stdout), (processes[-1].stderr, sys.stderr)):
                threading.Thread(target=forward, args=(source, sink, number), daemon=True).start()
        try:
            failed = first_failure(processes)
        except KeyboardInterrupt:
            stop(processes, signal.SIGINT)
            raise
        return 128 - failed if failed < 0 else failed


def started(command: Sequence[str]) -> subprocess.Popen[str]:
    """In a session of its own, so that a terminal's Ctrl-C reaches it through this script, once."""
    path = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def first_failure(processes: Sequence[subprocess.Popen[str]]) -> int:
    """Waits until all have ended well, or one has not; its status."""
    while True:
        statuses = [process.poll() for process in processes]
        if any(statuses) or None not in statuses:
            return next(filter(None, statuses), 0)
        time.sleep(LOOK)


def stop(processes: Sequence[subprocess.Popen[str]], request: signal.Signals) -> None:
    """Asks those that still run to end, and ends them after a while."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(request)
    deadline = time.monotonic() + GRACE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()


def forward(source: IO[str], sink: IO[str], number: int) -> None:
    """Line by line, each with the process's number in front."""
    for line in source:
        sink.write(f"[{number}] {line}")
        sink.flush()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT both end this script as Ctrl-C does, also where what started it has them ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main(launch)
