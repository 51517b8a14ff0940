"""Slices have each row once, with its number, wherever the file is cut for reading."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

TEN = [(n, f"/members/{n}") for n in range(1, 11)]


async def take_all(rows: Any) -> list[tuple[int, str]]:
    taken = []
    while (row := await rows.take()) is not None:
        taken.append((row.number, row.line))
    return taken


@pytest.mark.parametrize("piece_bytes", [1, 7, 12, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 25])
@pytest.mark.parametrize("ending", ["\n", "", "\r\n"])
def test_slices_have_each_row_once(bucket, monkeypatch, piece_bytes, count, ending):
    from million import rows

    monkeypatch.setattr(rows, "PIECE_BYTES", piece_bytes)
    content = bucket.objects["csv"].decode().removesuffix("\n") + ending
    bucket.objects["csv"] = content.encode()

    slices = rows.slices(bucket, "csv", count)

    assert 1 <= len(slices) <= min(count, 10)
    taken = [asyncio.run(take_all(rows.Rows(bucket, "csv", each))) for each in slices]
    assert [row for part in taken for row in part] == TEN
    assert all(taken)


def test_slices_are_of_about_the_same_size(bucket):
    from million.rows import slices

    assert [part.first_row for part in slices(bucket, "csv", 2)] == [1, 6]


def test_a_file_without_rows_has_no_slices(bucket):
    from million.rows import slices

    bucket.write("csv", b"path\n")

    assert slices(bucket, "csv", 2) == []


def test_many_coroutines_take_each_row_once(bucket, monkeypatch):
    from million import rows

    monkeypatch.setattr(rows, "PIECE_BYTES", 20)
    taken: list[tuple[int, str]] = []

    async def main() -> None:
        [part] = rows.slices(bucket, "csv", 1)
        source = rows.Rows(bucket, "csv", part)

        async def work() -> None:
            taken.extend(await take_all(source))

        await asyncio.gather(*(work() for _ in range(4)))

    asyncio.run(main())
    assert sorted(taken) == TEN
