"""Measuring contestants side by side: each in a process of its own, taking turns, compared by the median of many turns."""

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
    workers = {name: _Worker(command) for name, command in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.ask())
    for worker in workers.values():
        worker.stop()
    return {name: statistics.median(values) for name, values in times.items()}


def serve(work: Callable[[], object]) -> None:
    """Do ``work`` twice for each line on standard input, answering with the seconds that the second time took.

    The first brings back caches and pages that the others' turns, or the kernel, took from a process that was waiting.
    """
    work()
    print("0", flush=True)
    for _ in sys.stdin:
        work()
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


class _Worker:
    """A contestant: a process that answers each line with the seconds that a unit of work took."""

    def __init__(self, command: Sequence[str]):
        self.name = " ".join(command)
        self.process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()  # warmed up

    def ask(self) -> float:
        """Have it work once."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        return float(self._answer())

    def stop(self) -> None:
        """Let it end."""
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        if not line:
            raise SystemExit(f"{self.name}: stopped while being measured")
        return line
