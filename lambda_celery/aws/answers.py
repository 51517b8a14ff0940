"""AWS's answers, read by their length: of HTTP/1.1 (RFC 9112) what its JSON services speak."""

from __future__ import annotations

from typing import NamedTuple

from lambda_celery.exceptions import LambdaCeleryError

_HEAD_END = b"\r\n\r\n"
_MAXIMUM_HEAD_BYTES = 65_536


class UnusualAnswerError(LambdaCeleryError):
    """The answer is none that is read here; botocore may understand it."""


class Answer(NamedTuple):
    """An answer, whatever its status."""

    status: int
    body: bytes
    #: Whether the connection can take another request.
    keep_alive: bool


class AnswerReader:
    """Puts one answer together, from what a connection gives."""

    __slots__ = ("_body_begins", "_data", "_keep_alive", "_length", "_status")

    def __init__(self) -> None:
        self._data = b""
        self._length = -1
        self._body_begins = 0
        self._status = 0
        self._keep_alive = True

    def feed(self, data: bytes) -> Answer | None:
        """Take what came; return the answer when it is there as a whole.

        :raises UnusualAnswerError: it is none that is read here, or the connection has ended.
        """
        if not data:
            raise UnusualAnswerError("The connection was closed before the answer's end.")
        self._data = self._data + data if self._data else data
        if self._length < 0 and not self._read_head():
            return None
        left = self._body_begins + self._length - len(self._data)
        if left > 0:
            return None
        if left < 0:
            raise UnusualAnswerError("More came than the answer's length says.")
        return Answer(self._status, self._data[self._body_begins :], self._keep_alive)

    def _read_head(self) -> bool:
        end = self._data.find(_HEAD_END)
        if end < 0:
            if len(self._data) > _MAXIMUM_HEAD_BYTES:
                raise UnusualAnswerError("The answer's head has no end.")
            return False
        head = self._data[:end].lower() + b"\r\n"
        if not head.startswith(b"http/1.1 ") or b"\r\ntransfer-encoding:" in head:
            raise UnusualAnswerError("The answer has no length, or speaks another HTTP.")
        try:
            self._status = int(head[9:12])
            self._length = int(_value(head, b"content-length"))
        except ValueError:
            raise UnusualAnswerError("The answer has no length.") from None
        if self._length < 0 or self._status < 200 or b"\r\ncontent-encoding:" in head:
            raise UnusualAnswerError("The answer is not the plain one.")
        self._keep_alive = b"close" not in _value(head, b"connection")
        self._body_begins = end + len(_HEAD_END)
        return True


def _value(head: bytes, name: bytes) -> bytes:
    """Return the value of the header *name* in *head*, whose lines are in lower case."""
    begin = head.find(b"\r\n" + name + b":")
    if begin < 0:
        return b""
    begin += len(name) + 3
    return head[begin : head.find(b"\r\n", begin)].strip()
