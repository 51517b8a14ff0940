"""Tasks that make one HTTP call each, hundreds at a time in one environment.

    python benchmarks/http_calls.py --calls 100000 --at-once 100 300 500

The service is a local stand-in that answers after 50 ms, the idempotency table another that
answers after 5 ms; both are processes of their own on the same machine. Ordinary tasks run on
threads and call with urllib3, ``async def`` tasks run on one event loop and call with aiohttp.
The peers make the same calls with the same clients, without tasks and so without a table: a
ThreadPoolExecutor, and asyncio.gather with a semaphore. Each line is a process of its own, and
handler's time is that of its invocations, one for each batch. The function logs as it does without
a setting, two lines a task, to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import stand_ins
from bench import (
    add_log_level,
    begin,
    context,
    event,
    in_fresh_process,
    logged,
    make_app,
    set_log_level,
    settings_at,
)

SERVICE_SECONDS = 0.05
TABLE_SECONDS = 0.005


class Figures(NamedTuple):
    """What the calls took together."""

    seconds: float
    cpu_seconds: float


class Stopwatch:
    """Adds up the wall and CPU seconds of its ``with`` blocks."""

    def __init__(self) -> None:
        self.total = Figures(0.0, 0.0)

    def __enter__(self) -> None:
        self._began = Figures(time.perf_counter(), time.process_time())

    def __exit__(self, *_exc_info: object) -> None:
        self.total = Figures(
            self.total.seconds + time.perf_counter() - self._began.seconds,
            self.total.cpu_seconds + time.process_time() - self._began.cpu_seconds,
        )


class Client:
    """Calls *url* from threads, or from one event loop, and counts."""

    def __init__(self, url: str, at_once: int) -> None:
        import aiohttp
        import urllib3

        self._url = url
        self._at_once = at_once
        self._pool = urllib3.PoolManager(maxsize=at_once)
        self._session: aiohttp.ClientSession | None = None
        self._numbers = itertools.count()

    def call(self) -> None:
        """Call from a thread."""
        answer = self._pool.request("GET", self._url)
        assert answer.status == 200
        next(self._numbers)

    async def acall(self) -> None:
        """Call from the event loop."""
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._at_once)
            self._session = aiohttp.ClientSession(connector=connector)
        async with self._session.get(self._url) as answer:
            await answer.read()
            assert answer.status == 200
        next(self._numbers)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def count(self) -> int:
        """Return how many calls have been answered; may be asked once."""
        return next(self._numbers)


def plain_threads(url: str, calls: int, at_once: int, _batch: int) -> Figures:
    client, watch = Client(url, at_once), Stopwatch()
    with ThreadPoolExecutor(at_once) as executor, watch:
        for done in [executor.submit(client.call) for _ in range(calls)]:
            done.result()
    return checked(watch, client, calls)


def plain_gather(url: str, calls: int, at_once: int, _batch: int) -> Figures:
    client, watch = Client(url, at_once), Stopwatch()

    async def main() -> None:
        places = asyncio.Semaphore(at_once)

        async def call() -> None:
            async with places:
                await client.acall()

        with watch:
            await asyncio.gather(*(call() for _ in range(calls)))
        await client.close()

    asyncio.run(main())
    return checked(watch, client, calls)


def ordinary_tasks(url: str, calls: int, at_once: int, batch: int) -> Figures:
    client = Client(url, at_once)

    def call(_number: int) -> None:
        client.call()

    return tasks(client, call, calls, batch, concurrency=at_once)


def async_tasks(url: str, calls: int, at_once: int, batch: int) -> Figures:
    client = Client(url, at_once)

    async def call(_number: int) -> None:
        await client.acall()

    return tasks(client, call, calls, batch, async_concurrency=at_once)


def tasks(
    client: Client, body: Callable[[int], Any], calls: int, batch: int, **settings: int
) -> Figures:
    from lambda_runtime import make_handler

    watch = Stopwatch()
    with stand_ins.dynamodb(TABLE_SECONDS) as url:
        app = make_app(settings_at(url, **settings))
        task = app.task(name="bench.call", shared=False)(body)
        handler = make_handler(app)
        for start in range(0, calls, batch):
            made = event(task, ((n,) for n in range(start, min(start + batch, calls))))
            with logged(), watch:
                answer = handler(made, context())
            if answer["batchItemFailures"]:
                raise SystemExit(f"{len(answer['batchItemFailures'])} tasks failed: no figure.")
    return checked(watch, client, calls)


def checked(watch: Stopwatch, client: Client, calls: int) -> Figures:
    if (answered := client.count()) != calls:
        raise SystemExit(f"{answered} of {calls} calls were answered: no figure.")
    return watch.total


#: Each way, and the plain one that it is compared with.
WAYS = {
    "plain threads": (plain_threads, "plain threads"),
    "tasks on threads": (ordinary_tasks, "plain threads"),
    "plain asyncio": (plain_gather, "plain asyncio"),
    "async def tasks": (async_tasks, "plain asyncio"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[100, 300, 500])
    parser.add_argument("--batch", type=int, default=10_000, help="messages in an event")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add_log_level(parser)
    options = parser.parse_args()
    begin()
    set_log_level(options.loglevel)
    with stand_ins.http(SERVICE_SECONDS) as url:
        for at_once in options.at_once:
            report(url, at_once, options.ways, options)


def report(url: str, at_once: int, ways: list[str], options: argparse.Namespace) -> None:
    runs: dict[str, list[Figures]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, of_way in runs.items():
            function, _peer = WAYS[name]
            arguments = (url, options.calls, at_once, options.batch)
            of_way.append(in_fresh_process(function, *arguments))
    ideal = options.calls * SERVICE_SECONDS / at_once
    print(
        f"\n{options.calls:,} calls of {SERVICE_SECONDS * 1000:.0f} ms, {at_once} at a time: "
        f"{ideal:.1f} s if a call took nothing else; medians of {options.runs}; "
        f"the function logs at {options.loglevel}"
    )
    print(f"{'':18}{'seconds':>9}{'calls a second':>16}{'CPU ms a call':>15}{'/ plain':>9}")
    medians = {name: statistics.median(each.seconds for each in runs[name]) for name in runs}
    for name, of_way in runs.items():
        cpu = statistics.median(each.cpu_seconds for each in of_way) / options.calls
        plain = medians.get(WAYS[name][1])
        ratio = f"{plain / medians[name]:.2f}" if plain else ""  # of calls a second
        print(
            f"{name:18}{medians[name]:9.2f}{options.calls / medians[name]:16.0f}"
            f"{cpu * 1000:15.2f}{ratio:>9}",
            flush=True,
        )


if __name__ == "__main__":
    main()
