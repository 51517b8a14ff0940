"""A service on loopback that answers GET /members/N after a while, and makes trouble.

It is a process of its own, and counts the calls of each member. Of every K members one is answered
503 twice, one 429 once, and one is hung up on, before they are answered 200; one of every 2 K is
answered 404, and one of every 5 K 500, until the trouble is ended.

It is asked over the same port, by :class:`Stub`, what it has seen.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
BACKLOG = 1024
END_OF_HEAD = b"\r\n\r\n"

UNAVAILABLE_TWICE = 1
TOO_MANY_ONCE = 2
HUNG_UP_ONCE = 3
MISSING = 4
BROKEN = 5


class Stub:
    """Asks a stub that runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def begin(self, members: int, trouble_one_in: int = 0) -> None:
        """Count anew, for *members*; make trouble for some of them, with 0 for none."""
        self._ask(f"begin?{members}&{trouble_one_in}")

    def end_trouble(self) -> None:
        self._ask("end-trouble")

    def calls(self) -> int:
        """Return how many calls there have been."""
        return self._ask("calls")

    def report(self) -> dict[str, Any]:
        """Return the counts of members, of statuses, and the seconds from first to last call."""
        return self._ask("report")

    def _ask(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/stub/{what}") as answer:
            return json.load(answer)


@contextmanager
def stub(latency_seconds: float) -> Iterator[Stub]:
    """Run one for as long as the context, or this process."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), "--latency-seconds", str(latency_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A terminal's Ctrl-C is for this process, which still asks it until then.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not (port := process.stdout.readline().decode().strip()):
            raise SystemExit("The service that is to be called did not start.")
        yield Stub(f"http://{HOST}:{port}")
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Counts:
    """What has been seen, and what trouble there is."""

    def __init__(self, members: int = 0, trouble_one_in: int = 0) -> None:
        self.calls = 0
        self.first = self.last = 0.0
        self.statuses: Counter[str] = Counter()
        self._by_member = bytearray(members + 1)
        self._answered = bytearray(members + 1)
        self._one_in = trouble_one_in

    def end_trouble(self) -> None:
        self._one_in = 0

    def status(self, member: int) -> int:
        """Return what this call is answered; 0: it is hung up on."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.calls += 1
        before = self._by_member[member]
        self._by_member[member] = min(before + 1, 255)
        status = self._trouble(member, before) if self._one_in else 200
        if status == 200:
            self._answered[member] = min(self._answered[member] + 1, 255)
        self.statuses[str(status or "hung up")] += 1
        return status

    def report(self) -> dict[str, Any]:
        called = self._by_member[1:]
        answered = self._answered[1:]
        return {
            "calls": self.calls,
            "seconds": self.last - self.first,
            "statuses": dict(self.statuses),
            "never called": called.count(0),
            "answered 200 once": answered.count(1),
            "answered 200 twice or more": len(answered) - answered.count(0) - answered.count(1),
        }

    def _trouble(self, member: int, before: int) -> int:
        kind = member % self._one_in
        if kind == UNAVAILABLE_TWICE and before < 2:
            return 503
        if kind == TOO_MANY_ONCE and not before:
            return 429
        if kind == HUNG_UP_ONCE and not before:
            return 0
        if member % (2 * self._one_in) == MISSING:
            return 404
        if member % (5 * self._one_in) == BROKEN:
            return 500
        return 200


class Service:
    """Answers for all connections."""

    def __init__(self, latency_seconds: float) -> None:
        self.latency_seconds = latency_seconds
        self._counts = Counts()

    def is_asked(self, path: str) -> str | None:
        """Return the answer if *path* is a question to the stub itself."""
        if not path.startswith("/stub/"):
            return None
        what, _, arguments = path.removeprefix("/stub/").partition("?")
        answer: Any = None
        match what:
            case "begin":
                self._counts = Counts(*map(int, arguments.split("&")))
            case "end-trouble":
                self._counts.end_trouble()
            case "calls":
                answer = self._counts.calls
            case "report":
                answer = self._counts.report()
        return json.dumps(answer)

    def status(self, path: str) -> int:
        return self._counts.status(int(path.rpartition("/")[2]))


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for requests without a body."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._later = asyncio.get_running_loop().call_later
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(END_OF_HEAD)
        for head in heads:
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        own = self._service.is_asked(path)
        if own is not None:
            self._transport.write(response(200, own.encode()))
        elif status := self._service.status(path):
            seconds = self._service.latency_seconds
            self._later(seconds, self._transport.write, response(status, b"ok"))
        else:
            self._transport.close()


def response(status: int, content: bytes) -> bytes:
    more = b"Retry-After: 1\r\n" if status == 429 else b""
    return b"HTTP/1.1 %d -\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status, more, len(content), content,
    )  # fmt: skip


async def serve(latency_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    service = Service(latency_seconds)
    server = await loop.create_server(lambda: Connection(service), HOST, 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-seconds", type=float, default=0.02)
    asyncio.run(serve(parser.parse_args().latency_seconds))
