"""A process that runs the servers of a test session and outlives it by a moment: it ends them when the session is gone.

    python keeper.py FOLDER

It reads requests, one JSON object a line, and answers each with one. Where its input ends, the session has ended, or
was killed: then it ends all that still runs, and removes FOLDER. Nothing else is needed, on any system, for a server
never to be left behind. It imports nothing but the standard library, and starts fast.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import Any, TypeAlias

Running: TypeAlias = dict[int, "subprocess.Popen[bytes]"]

PATIENCE = 15.0
"""Seconds that a server has for ending when it is told to."""


def run(running: Running, request: dict[str, Any]) -> int:
    """Starts a program in the background; its process id."""
    with open(request["output"], "ab") as output:
        process = subprocess.Popen(
            request["run"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=request["environment"],
            cwd=request["folder"],
            user=request["user"],
            group=request["group"],
            extra_groups=None if request["user"] is None else [],
        )
    running[process.pid] = process
    return process.pid


def wait(running: Running, request: dict[str, Any]) -> int | None:
    """Waits for a program to end; its exit status, None when it is still running after so many seconds."""
    try:
        status = running[request["wait"]].wait(request["seconds"])
    except subprocess.TimeoutExpired:
        return None
    del running[request["wait"]]
    return status


def serve(running: Running) -> None:
    """Answers requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, str | int | None]
        try:
            answer = {"answer": (run if "run" in request else wait)(running, request)}
        except Exception as error:  # whatever it is, the test that asked should show it
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


def end(running: Running) -> None:
    """Ends all that still runs."""
    for process in running.values():
        process.send_signal(signal.SIGQUIT)  # to PostgreSQL: at once, with all its processes
    for process in running.values():
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    # What interrupts the session is no reason to go before it. Handlers, because what is ignored the servers inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    running: Running = {}
    try:
        serve(running)
    finally:
        end(running)
        shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
