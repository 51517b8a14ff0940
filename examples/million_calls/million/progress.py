"""How far a slice is: kept in the bucket, so that whoever runs it next goes on from there.

A row that was taken is open until its call is settled. The mark has the place of the next row and
the rows that are open, of which there are never more than calls in flight: what is neither open
nor ahead of the next row is done. Failures are lists of their own, written before the mark that
counts them::

    JOB/0/mark.json        JOB/0/failed/000000.csv, 000001.csv, …
"""

import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from million.rows import Row, Rows, Slice, slices
from million.storage import Storage

STATUS = Path("/proc/self/status")

#: A list of failures can be called again: its rows are "row,status,…" and then the row's own.
FAILED_HEADER = "row,status,"


@dataclass
class Mark:
    """The state of a slice, as it is kept.

    Attributes:
        key: of the CSV.
        failures_of: the job whose failures these are, if it is a list of such.
        next_byte, end_byte, next_row: what is left of it.
        open: rows that were taken and are not settled: number and line.
        lists: how many lists of failures there are.
        runs: how often the task has begun.
        peak_bytes: the most memory that a process has had at it.
        seconds: how long the runs have taken, as far as they were saved.
    """

    key: str
    failures_of: str | None
    next_byte: int
    end_byte: int
    next_row: int
    open: list[tuple[int, str]] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    lists: int = 0
    runs: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0


def begin(
    storage: Storage, job: str, key: str, parts: int = 1, *, failures_of: str | None = None
) -> int:
    """Cut the CSV *key* into slices, and write the first mark of each; return how many there are.

    Arguments:
        job: a name that no job has had.
        parts: how many slices; there are fewer if there are fewer rows.
        failures_of: the job whose failures *key* lists. Their rows are the same calls as in it.
    """
    cut = slices(storage, key, parts)
    for number, part in enumerate(cut):
        mark = Mark(key, failures_of, part.begin, part.end, part.first_row)
        storage.write(_mark_key(job, number), json.dumps(asdict(mark)).encode())
    return len(cut)


def read_mark(storage: Storage, job: str, part: int) -> Mark:
    return Mark(**json.loads(storage.read(_mark_key(job, part))))


def failures(storage: Storage, job: str, part: int) -> list[str]:
    """Return the lines "row,status,…" of the rows that have failed so far."""
    mark = read_mark(storage, job, part)
    # A list beyond these is of a run that was killed before it wrote the mark.
    return [
        line
        for number in range(mark.lists)
        for line in storage.read(_list_key(job, part, number)).decode().splitlines()
    ]


class Progress:
    """Hands out the rows of a slice, is told what became of them, and saves that."""

    def __init__(self, storage: Storage, job: str, part: int) -> None:
        self._storage = storage
        self._job = job
        self._part = part
        self._mark = mark = read_mark(storage, job, part)
        mark.runs += 1
        self._rows = Rows(storage, mark.key, Slice(mark.next_byte, mark.end_byte, mark.next_row))
        self._left_open = [Row(*each) for each in reversed(mark.open)]
        self._open: dict[int, Row] = {row.number: row for row in self._left_open}
        self._failures: list[str] = []
        self._saving = asyncio.Lock()
        self._before = mark.seconds
        self._began = time.monotonic()

    async def take(self) -> Row | None:
        """Return a row that is to be called, or ``None`` if there is no more."""
        if self._left_open:
            return self._left_open.pop()
        row = await self._rows.take()
        if row is not None:
            self._open[row.number] = row
        return row

    def call_of(self, row: Row) -> tuple[str, list[str]]:
        """Return a key of the row's call, and its fields: always the same, in all lists."""
        if self._mark.failures_of is None:
            return f"{self._job}-{row.number}", row.fields
        number, _status, *fields = row.fields
        return f"{self._mark.failures_of}-{number}", fields

    def succeeded(self, row: Row) -> None:
        del self._open[row.number]
        self._mark.succeeded += 1

    def failed(self, row: Row, status: int | str) -> None:
        del self._open[row.number]
        self._mark.failed += 1
        if self._mark.failures_of is not None:
            number, _last_status, line = row.line.split(",", 2)
            self._failures.append(f"{number},{status},{line}\n")
        else:
            self._failures.append(f"{row.number},{status},{row.line}\n")

    async def save(self) -> None:
        """Write down what has been settled so far."""
        async with self._saving:
            mark, failures = self._mark, "".join(self._failures)
            self._failures.clear()
            number = mark.lists
            mark.lists += bool(failures)
            mark.next_byte, mark.next_row = self._rows.next_byte, self._rows.next_row
            mark.open = [tuple(row) for row in self._open.values()]
            mark.peak_bytes = max(mark.peak_bytes, _peak_bytes())
            mark.seconds = self._before + time.monotonic() - self._began
            content = json.dumps(asdict(mark)).encode()
            if failures:
                key = _list_key(self._job, self._part, number)
                await asyncio.to_thread(self._storage.write, key, failures.encode())
            await asyncio.to_thread(self._storage.write, _mark_key(self._job, self._part), content)

    def summary(self) -> dict[str, Any]:
        return {"succeeded": self._mark.succeeded, "failed": self._mark.failed}


def _peak_bytes() -> int:
    # Not getrusage(): it has the memory of who started this process.
    [line] = [each for each in STATUS.read_text().splitlines() if each.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def _mark_key(job: str, part: int) -> str:
    return f"{job}/{part}/mark.json"


def _list_key(job: str, part: int, number: int) -> str:
    return f"{job}/{part}/failed/{number:06}.csv"
