"""One child, as its parent has it: a process, a socket, and what it is at work on."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from lambda_runtime.messages.delivery import Delivery
from lambda_runtime.processes.frames import (
    READ_BYTES,
    Limited,
    Order,
    Reader,
    Report,
    Run,
    encoded,
)

logger = logging.getLogger(__name__)

#: How many lanes a child is given of a kind, before it has said how many it takes.
Room = dict[bool, int]


@dataclass
class Dealt:
    """A lane that a child has."""

    run: Run
    #: Of which it is not known what becomes of them.
    left: list[Delivery] = field(init=False)

    def __post_init__(self) -> None:
        self.left = list(self.run.lane)


class ChildProcess:
    """A child that was forked. Nothing here waits for it."""

    def __init__(
        self,
        serve: Callable[[socket.socket], NoReturn],
        siblings: Iterable[ChildProcess],
        room: Room,
    ) -> None:
        """Fork a child that calls *serve*; by whether they are asynchronous, it has *room* for.

        :raises OSError: the system forks no more.
        """
        self.socket, theirs = socket.socketpair()
        # What is left in there would be written twice.
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            for each in (self, *siblings):
                each.socket.close()  # else the end of the parent would not be seen
            _be_child(serve, theirs)
        theirs.close()
        self.socket.setblocking(False)
        self.room = room
        self.dealt: dict[int, Dealt] = {}
        #: The ids of messages that a lane has come to, and of which it is not known what becomes.
        self.begun: set[str] = set()
        #: By message id: what has a hard limit, and when that is outlived (``time.monotonic``).
        self.limits: dict[str, tuple[float, Limited]] = {}
        #: Whether it is to be killed as soon as nothing else is in it.
        self.is_doomed = False
        #: Whether it has come to a message, ever.
        self.has_worked = False
        self.is_in_invocation = False
        #: How it ended; empty while it has not.
        self.end = ""
        self._reader = Reader()
        self._unsent = bytearray()
        self._is_silent = False

    def capacity(self, is_async: bool) -> int:
        """Return how many lanes more it may have."""
        if self.is_doomed or self.end:
            return 0
        return self.room[is_async] - sum(
            each.run.is_async is is_async for each in self.dealt.values()
        )

    @property
    def awaited(self) -> int:
        """What is waited for, in the words of ``poll``."""
        return select.POLLIN | (select.POLLOUT if self._unsent else 0)

    def send(self, order: Order) -> None:
        """Send *order*, as much of it as can be sent now."""
        self._unsent += encoded(order)
        self.flush()

    def flush(self) -> None:
        """Send more of what is to be sent."""
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it has ended: that is seen when it is read
            self._unsent.clear()

    def reports(self) -> list[Report]:
        """Return what it has told."""
        told: list[Report] = []
        try:
            while data := self.socket.recv(READ_BYTES):
                told += self._reader.feed(data)
            self._is_silent = True
        except BlockingIOError:
            pass
        except OSError:
            self._is_silent = True
        return told

    def look(self) -> None:
        """See whether it has ended. One that has closed its socket is ended, for it is of no use.

        Its socket alone does not tell: what a task has forked in it may hold that open.
        """
        if self.end:
            return
        if self._is_silent:
            self.kill()
            return
        self._wait(os.WNOHANG)

    def kill(self) -> None:
        """End it, whatever it does."""
        if not self.end:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._wait(0)

    def _wait(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # somebody else has waited for it
            self.end = "has ended"
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        self.end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited ({code})"


def _be_child(serve: Callable[[socket.socket], NoReturn], channel: socket.socket) -> NoReturn:
    """Call *serve*, and end this process with it: nothing of what has called this goes on here."""
    try:
        # An interrupt from the keyboard reaches all; the parent ends, and its children with it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        serve(channel)
    except BaseException:
        logger.exception("A process that runs tasks has ended")
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(1)
