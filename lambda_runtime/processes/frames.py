"""What parent and child tell each other, and how it is written on the socket between them.

::

    parent   Begin   Run ......... Run ...........   End
    child               Begun Settled Through           Ended

A frame is its length and a pickle. Both ends are the same program, and nobody else has them.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lambda_runtime.deadline import Deadline
from lambda_runtime.decision import Killed
from lambda_runtime.messages.note import Note
from lambda_runtime.messages.outcome import Forwarded, Returned
from lambda_runtime.running.threads import Lane

#: How much is read at a time.
READ_BYTES = 262_144
_LENGTH = struct.Struct("!I")
#: What a receiver of ``batch_finished`` may want to know of the Lambda context.
_OF_CONTEXT = (
    "aws_request_id", "function_name", "function_version", "invoked_function_arn",
    "log_group_name", "log_stream_name", "memory_limit_in_mb",
)  # fmt: skip


class ChildContext:
    """The Lambda context, as far as a child has it."""

    def __init__(self, context: Any, deadline: Deadline) -> None:
        self._deadline = deadline
        for name in _OF_CONTEXT:
            if isinstance(value := getattr(context, name, None), str | int):
                vars(self)[name] = value

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the invocation ends."""
        return max(0, int(self._deadline.seconds() * 1000))


@dataclass(frozen=True)
class Begin:
    """An invocation begins, for this child."""

    deadline: Deadline
    context: ChildContext
    #: X-Ray's, which Lambda's runtime puts into the environment of the process that it calls.
    trace_id: str | None


@dataclass(frozen=True)
class Run:
    """Run a lane."""

    number: int
    lane: Lane
    is_async: bool
    is_alone: bool = False
    #: How its first message's run was ended, where it is to be settled and not run.
    killed: Killed | None = None


class End(NamedTuple):
    """All lanes of the invocation are through."""


class Begun(NamedTuple):
    """A lane has come to a message."""

    message_id: str


class Limited(NamedTuple):
    """The body of a task with a hard limit begins."""

    message_id: str
    killed: Killed


class Unlimited(NamedTuple):
    """The body of a task with a hard limit has ended."""

    message_id: str


class Settled(NamedTuple):
    """It is known whether a message stays on its queue, and how."""

    message_id: str
    back: Returned | Forwarded | None
    #: What the child has noted of it.
    note: Note


class Later(NamedTuple):
    """A message, and what follows it in its lane, is to run when all others are settled."""

    message_id: str
    #: How many runs there have been of the message.
    attempts: int


class Through(NamedTuple):
    """A lane has ended."""

    number: int
    #: How many lanes of its kind the child takes up at a time.
    room: int


class Ended(NamedTuple):
    """The child has done all that belongs to the invocation."""


Order = Begin | Run | End
Report = Begun | Limited | Unlimited | Settled | Later | Through | Ended


def encoded(frame: Order | Report) -> bytes:
    """Return *frame* as it is written."""
    text = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(text)) + text


class Reader:
    """Makes frames of what comes, in whatever pieces."""

    def __init__(self) -> None:
        self._read = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the frames that *data* completes."""
        self._read += data
        while len(self._read) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._read)
            end = _LENGTH.size + length
            if len(self._read) < end:
                return
            text = bytes(self._read[_LENGTH.size : end])
            del self._read[:end]
            yield pickle.loads(text)  # noqa: S301 - our own
