"""All contact with CPython's private parts, each with a contract test."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _threads_queues
from typing import Any


def abandon(executor: ThreadPoolExecutor) -> None:
    """Leave the threads of *executor* to themselves: the process's end does not wait for them."""
    executor.shutdown(wait=False)
    for each in executor._threads:
        # The process's end joins those that are in here.
        _threads_queues.pop(each, None)  # type: ignore[attr-defined]


def signal_handler(number: int) -> Any:
    """Return the handler of the signal *number*.

    :mod:`signal` looks for it in an enumeration first, at thirty times the price.
    """
    return _signal.getsignal(number)


def unblock_signal(number: int) -> None:
    """See that this thread is reached by the signal *number*."""
    _signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))


def run_after_forkers() -> None:
    """Call what libraries want to have called in a forked child, as ``multiprocessing`` does."""
    from multiprocessing import util  # for those who fork

    util._run_after_forkers()  # type: ignore[attr-defined]


class _PollFD(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


#: Whose functions are called without giving the interpreter up.
_libc = ctypes.PyDLL(None)
_libc.write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_libc.write.restype = ctypes.c_ssize_t


def write_holding_interpreter(descriptor: int, data: bytes) -> bool:
    """Write *data* to the file *descriptor* if that need not wait; return whether it is written.

    Any other way to write gives the interpreter up: other threads take it, and this one waits.
    """
    if len(data) > select.PIPE_BUF:  # what a pipe takes in one piece
        return False
    asked = _PollFD(descriptor, select.POLLOUT, 0)
    if _libc.poll(ctypes.byref(asked), 1, 0) != 1 or asked.revents != select.POLLOUT:
        return False
    written = _libc.write(descriptor, data, len(data))
    if written < 0:
        return False
    while written < len(data):  # of a file on a full disk, say
        written += os.write(descriptor, data[written:])
    return True
