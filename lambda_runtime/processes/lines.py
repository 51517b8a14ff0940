"""Whole lines on a standard output that several processes share.

The system writes a line of some kilobytes in several pieces where its reader is slow, and the line
of another process would come in between. So whoever writes locks a file meanwhile: the system keeps
such a lock for each process, and takes it away from one that ends.
"""

from __future__ import annotations

import fcntl
import logging
import sys
import tempfile
from typing import IO, Any


def share_standard_output() -> Lines:
    """Have the log handlers that write to standard output write whole lines, here and in forks.

    Return the stream by which others do.
    """
    lock = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as there are handlers
    shared = Lines(sys.stdout, lock)
    for name in (None, "celery.task"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
                handler.setStream(shared)
    return shared


class Lines:
    """A text stream each of whose writes is whole.

    Threads are none of its business: a log handler has a lock for those.
    """

    def __init__(self, stream: Any, lock: IO[bytes]) -> None:
        self._stream = stream
        self._lock = lock

    def write(self, text: str) -> None:
        """Write *text*, and flush it."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            self._stream.write(text)
            self._stream.flush()
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def flush(self) -> None:
        """Flush what others have written to the stream."""
        self._stream.flush()
