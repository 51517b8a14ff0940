"""Proxies before the emulated AWS and before Redis, for outages.

They stall, reset, refuse, or lose the answer.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

#: How long one that stalls holds a connection: longer than anybody waits.
_STALL_SECONDS = 60
MODES = ("stall", "reset", "answer lost", "500", "throttle")
SERVICES = {"dynamodb": b"dynamodb_", "sqs": b"amazonsqs", "s3": b""}
#: What a Redis server says when it does not do as it is told.
REDIS_REFUSALS = {
    "loading": b"-LOADING Redis is loading the dataset in memory",
    "out of memory": b"-OOM command not allowed when used memory > 'maxmemory'.",
    "denied": b"-NOAUTH Authentication required.",
}
#: What it says to commands that it does not do yet.
_IN_TRANSACTION = (b"+OK\r\n", b"+QUEUED\r\n")
REDIS_MODES = ("stall", "reset", "answer lost", *REDIS_REFUSALS)


@dataclass
class Outage:
    """What happens to the requests of a service, at the moment."""

    service: str
    mode: str

    def concerns(self, head: bytes) -> bool:
        """Whether it concerns the request with this *head*."""
        lower = head.lower()
        found = next((name for name, mark in SERVICES.items() if mark and mark in lower), "s3")
        return found == self.service


class Proxy:
    """Passes requests on to *target*, but for those that :attr:`outage` concerns."""

    _scheme = "http"

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self.outage: Outage | None = None
        #: Requests that an outage has concerned.
        self.hit = 0
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve, on a thread, within the context."""
        loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.url = f"{self._scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()

        async def end() -> None:
            waiting = asyncio.all_tasks() - {asyncio.current_task()}
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

        def run() -> None:
            loop.run_until_complete(serve())
            loop.run_forever()
            loop.run_until_complete(end())
            loop.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = _length(head)
                body = await reader.readexactly(length) if length else b""
                outage = self.outage
                if outage is None or not outage.concerns(head):
                    writer.write(await self._answer(head, body))
                    await writer.drain()
                    continue
                self.hit += 1
                if outage.mode == "stall":
                    await asyncio.sleep(_STALL_SECONDS)
                elif outage.mode == "answer lost":
                    await self._answer(head, body)
                elif outage.mode in ("500", "throttle"):
                    writer.write(_refusal(outage.mode))
                    await writer.drain()
                    continue
                return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._target)
        lines = [
            each for each in head.split(b"\r\n") if not each.lower().startswith(b"connection:")
        ]
        writer.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]) + body)
        answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        kept = [
            each
            for each in head.split(b"\r\n")
            if not each.lower().startswith((b"connection:", b"transfer-encoding:"))
        ]
        if b"transfer-encoding: chunked" in head.lower():
            rest = _unchunked(rest)
            kept.append(b"Content-Length: %d" % len(rest))
        return b"\r\n".join(kept) + b"\r\n\r\n" + rest


class RedisProxy(Proxy):
    """Passes commands on to the Redis server *target*, but for those while there is an outage."""

    _scheme = "redis"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection(*self._target)
        answers = asyncio.create_task(_copy(server_reader, writer))
        try:
            while command := await _redis_command(reader):
                outage = self.outage
                if outage is None:
                    server.write(command)
                    continue
                self.hit += 1
                if outage.mode in REDIS_REFUSALS:
                    writer.write(REDIS_REFUSALS[outage.mode] + b"\r\n")
                    continue
                answers.cancel()
                if outage.mode == "stall":
                    await asyncio.sleep(_STALL_SECONDS)
                elif outage.mode == "answer lost":
                    server.write(command)
                    if await server_reader.readuntil(b"\r\n") in _IN_TRANSACTION:
                        continue  # nothing is done before its end
                elif outage.mode == "reset":
                    writer.transport.abort()
                return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            answers.cancel()
            server.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


async def _redis_command(reader: asyncio.StreamReader) -> bytes:
    """Return the next command, an array of strings, as it was written."""
    whole = head = await reader.readuntil(b"\r\n")
    for _ in range(int(head[1:])):
        length = await reader.readuntil(b"\r\n")
        whole += length + await reader.readexactly(int(length[1:]) + 2)
    return whole


def random_outage(generator: random.Random) -> Outage:
    """Draw an outage."""
    return Outage(generator.choice(["dynamodb", "sqs"]), generator.choice(MODES))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        if not (count := int(size, 16)):
            break
        whole += data[:count]
        data = data[count + 2 :]
    return whole


def _refusal(mode: str) -> bytes:
    status = b"500 Internal Server Error" if mode == "500" else b"400 Bad Request"
    code = "InternalServerError" if mode == "500" else "ThrottlingException"
    body = f'{{"__type":"com.amazonaws#{code}","message":"an outage"}}'.encode()
    return (
        b"HTTP/1.1 " + status + b"\r\nContent-Type: application/x-amz-json-1.0\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
