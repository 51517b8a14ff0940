"""What ran, when and in which process: each process of a function appends lines to its own file."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

#: Names the directory of the files. Where it is not set, nothing is written.
VARIABLE = "EXAMPLE_RUNS"
DONE = "done"


@dataclass(frozen=True)
class Run:
    """One run of a task's body; the times are seconds since the epoch.

    *how* is ``"done"``, or the name of the exception that ended it.
    """

    number: int
    task_id: str
    process_id: int
    began: float
    ended: float
    how: str


class RunLog:
    """The runs that are written to a directory.

    A line is written by one system call, when a run has ended.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the log that the environment names, if it names one."""
        directory = os.environ.get(VARIABLE)
        return cls(Path(directory)) if directory else None

    def note(self, run: Run) -> None:
        path = self.directory / str(run.process_id)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{json.dumps(asdict(run))}\n".encode())
        finally:
            os.close(file)

    def forget(self) -> None:
        """Forget all runs so far."""
        for path in self.directory.iterdir():
            path.unlink()

    def read(self) -> list[Run]:
        """Return all runs so far, in the order in which they ended."""
        runs = [
            Run(**json.loads(line))
            for path in self.directory.iterdir()
            for line in path.read_text().splitlines()
        ]
        return sorted(runs, key=lambda run: run.ended)


def at_most_in_flight(runs: Iterable[Run]) -> int:
    """Return how many bodies ran at the same time at most."""
    return max((count for _, count in in_flight(runs)), default=0)


def in_flight(runs: Iterable[Run]) -> list[tuple[float, int]]:
    """Return how many bodies ran, from each moment at which that changed."""
    runs = list(runs)
    # Of two at the same moment, the end first.
    changes = sorted([(run.began, 1) for run in runs] + [(run.ended, -1) for run in runs])
    counted, steps = 0, []
    for moment, change in changes:
        counted += change
        steps.append((moment, counted))
    return steps


@contextmanager
def noted(number: int, task_id: str) -> Iterator[None]:
    """Note the run of *number* that the block is, however it ends."""
    log = RunLog.from_environment()
    began, how = time.time(), DONE
    try:
        yield
    except BaseException as exc:
        how = type(exc).__name__
        raise
    finally:
        if log is not None:
            log.note(Run(number, task_id, os.getpid(), began, time.time(), how))
