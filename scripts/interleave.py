"""Measuring contestants side by side: each in a process of its own, taking turns, compared by the median of many turns."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def measure(contestants: Mapping[str, Sequence[str]], rounds: int) -> dict[str, float]:
    """Median seconds of one unit of work, per contestant.

    ``contestants`` maps a name to the command line of a process that calls ``serve``. They take turns, so that whatever else
    slows the machine down slows all of them down.
    """
    workers = {name: _start(command) for name, command in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(_ask(name, worker))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return {name: statistics.median(values) for name, values in times.items()}


def serve(work: Callable[[], None]) -> None:
    """Do ``work`` once to warm up, then once for each line on standard input, answering with the seconds that it took."""
    work()
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        print(json.dumps(time.perf_counter() - start), flush=True)


def _start(command: Sequence[str]) -> subprocess.Popen:
    worker = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if worker.stdout.readline().strip() != '"ready"':
        raise SystemExit(f"{' '.join(command)}: did not start")
    return worker


def _ask(name: str, worker: subprocess.Popen) -> float:
    worker.stdin.write("go\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{name}: stopped while being measured")
    return json.loads(line)
