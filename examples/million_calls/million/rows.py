"""The rows of a CSV in the bucket, read a piece at a time: one line is one row."""

import asyncio
import csv
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from million.storage import Storage

#: What is read at a time: some ten thousand short rows.
PIECE_BYTES = 256 * 1024


class Row(NamedTuple):
    """A line of the CSV, and which one it is. The first after the header has number 1."""

    number: int
    line: str

    @property
    def fields(self) -> list[str]:
        return next(csv.reader([self.line]))


class Slice(NamedTuple):
    """Bytes of the file from the begin of a line to the end of one."""

    begin: int
    end: int
    first_row: int


class Rows:
    """Takes rows from a slice, one after the other, for many coroutines.

    Attributes:
        next_byte: where the row begins that is taken next.
        next_row: its number.
    """

    def __init__(self, storage: Storage, key: str, part: Slice) -> None:
        self._storage = storage
        self._key = key
        self._end = part.end
        self.next_byte = self._read_to = part.begin
        self.next_row = part.first_row
        self._lines: deque[bytes] = deque()
        self._incomplete = b""
        self._reading = asyncio.Lock()

    async def take(self) -> Row | None:
        """Return the next row, or ``None`` after the last one."""
        while not self._lines:
            async with self._reading:
                if not self._lines and not await self._read():
                    return None
        line = self._lines.popleft()
        row = Row(self.next_row, line.decode().rstrip("\r\n"))
        self.next_byte += len(line)
        self.next_row += 1
        return row

    async def _read(self) -> bool:
        if self._read_to >= self._end:
            return False
        end = min(self._read_to + PIECE_BYTES, self._end)
        piece = await asyncio.to_thread(self._storage.read, self._key, self._read_to, end)
        self._read_to = end
        lines = (self._incomplete + piece).splitlines(keepends=True)
        is_last = end == self._end
        self._incomplete = b"" if is_last or lines[-1].endswith(b"\n") else lines.pop()
        self._lines.extend(lines)
        return True


def slices(storage: Storage, key: str, count: int) -> list[Slice]:
    """Cut the rows after the header into *count* slices of about the same size.

    The file is read once, because a slice is to know the number of its first row.
    """
    size = storage.size(key)
    found: list[Slice] = []
    header_end = begin = position = 0
    first_row = row = 1
    for line in _lines(storage, key, size):
        position += len(line)
        if not header_end:
            header_end = begin = position
            continue
        row += 1
        share = (size - header_end) * (len(found) + 1) // count
        if position - header_end >= share:
            found.append(Slice(begin, position, first_row))
            begin, first_row = position, row
    return found


def _lines(storage: Storage, key: str, size: int) -> Iterator[bytes]:
    incomplete = b""
    for begin in range(0, size, PIECE_BYTES):
        piece = incomplete + storage.read(key, begin, min(begin + PIECE_BYTES, size))
        *lines, incomplete = piece.split(b"\n")
        yield from (line + b"\n" for line in lines)
    if incomplete:
        yield incomplete
