"""Become ``python -m awslambdaric HANDLER``, and lack what an execution environment lacks.

Run as a script: ``python _like_lambda.py WRITABLE RUNTIME_PACKAGES HANDLER``, where the first two
are JSON lists of paths. On Lambda there is no ``/dev/shm``, and the file system is read-only
outside of ``/tmp``. An audit hook holds the latter, since it needs no rights, and works on macOS
as well. With ``python -I -S``, the import path is the working directory, RUNTIME_PACKAGES and the
standard library; else that list is empty.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_CREATES_ANEW = os.O_CREAT | os.O_EXCL
#: Linux alone has it: a file without a name, in the directory that is opened.
_O_TMPFILE = getattr(os, "O_TMPFILE", 0)
#: No files of a project, though /dev/stdout may be a link to one.
_NOT_OURS = ("/dev/", "/proc/")
_PR_SET_PDEATHSIG = 1
#: What `dir_fd` is when it is not given.
_NO_DIRECTORY = -1


def lack_semaphores() -> None:
    """Have semaphores and shared memory raise what the C library does without ``/dev/shm``."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    semaphores: Any = importlib.import_module("_multiprocessing")
    shared_memory: Any = importlib.import_module("_posixshmem")
    # A subclass, since multiprocessing and billiard read its constants.
    semaphores.SemLock = type("SemLock", (semaphores.SemLock,), {"__new__": fail})
    shared_memory.shm_open = fail


def end_with_parent(parent_id: int) -> None:
    """Have the kernel kill this process when its parent ends, if that is *parent_id* (Linux).

    On Lambda Managed Instances *parent_id* is awslambdaric, which forks what runs the handler:
    processes of which nobody else here knows. What a task forks there is its own affair.
    """
    if os.getppid() == parent_id:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ReadOnlyFileSystem:
    """An audit hook that refuses to change any file, but for those in some places.

    It leaves to the operating system what that would refuse for another reason, so that an
    error is the one that a read-only file system on Linux gives.

    Arguments:
        writable: files and directories that may be changed, with all that is in them.
        root: the deployed package's, which may not, even if it is in one of these.
    """

    def __init__(self, writable: Iterable[str], root: str) -> None:
        self._rules = {os.path.realpath(root): False}
        self._rules |= {os.path.realpath(path): True for path in writable}
        self._told: set[str] = set()
        self._checks: dict[str, Callable[..., None]] = {
            "open": self._open,
            "os.chmod": lambda path, *rest: self._change(path, rest[-1]),
            "os.chown": lambda path, *rest: self._change(path, rest[-1]),
            "os.link": self._link,
            "os.mkdir": lambda path, _, directory: self._create(path, directory),
            "os.remove": self._remove,
            "os.removexattr": lambda path, *_: self._change(path),
            "os.rename": self._rename,
            "os.rmdir": self._remove,
            "os.setxattr": lambda path, *_: self._change(path),
            "os.symlink": lambda _, path, directory: self._create(path, directory),
            "os.truncate": lambda path, _: self._change(path),
            "os.utime": lambda path, *rest: self._change(path, rest[-1]),
        }

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        check = self._checks.get(event)
        if check is not None:
            check(*arguments)

    def _open(self, path: Any, mode: str | None, flags: int) -> None:
        if not flags & (_WRITES | os.O_CREAT) or (name := _name(path)) is None:
            return
        # With `dir_fd` this is the wrong path, but the event does not have that.
        full = os.path.realpath(name)
        if name.startswith(_NOT_OURS) or self._is_writable(full):
            return
        if flags & _CREATES_ANEW == _CREATES_ANEW and os.path.lexists(name):
            return
        if os.path.isfile(full):
            changes = bool(flags & _WRITES)
        elif os.path.isdir(full):
            changes = bool(_O_TMPFILE) and flags & _O_TMPFILE == _O_TMPFILE
        else:  # a pipe, say, is no part of the file system
            changes = bool(flags & os.O_CREAT) and not os.path.exists(full) and _could_be(full)
        if changes:
            self._refuse(path, full)

    def _create(self, path: Any, directory: int) -> None:
        entry = _entry(path, directory)
        if not self._is_writable(entry) and _could_be(entry) and not os.path.lexists(entry):
            self._refuse(path, entry)

    def _remove(self, path: Any, directory: int) -> None:
        entry = _entry(path, directory)
        if not self._is_writable(entry) and _could_be(entry):
            self._refuse(path, entry)

    def _change(self, path: Any, directory: int = _NO_DIRECTORY) -> None:
        if (name := _name(path)) is None or name.startswith(_NOT_OURS):
            return
        full = os.path.realpath(os.path.join(_directory(directory), name))
        if os.path.exists(full) and not self._is_writable(full):
            self._refuse(path, full)

    def _rename(self, old: Any, new: Any, old_directory: int, new_directory: int) -> None:
        source, target = _entry(old, old_directory), _entry(new, new_directory)
        if not (_could_be(source) and _could_be(target)):
            return
        writable = self._is_writable(source), self._is_writable(target)
        if any(writable) and not all(writable):
            raise _error(errno.EXDEV, old, new)
        if not any(writable):
            self._refuse(old, target, new)

    def _link(self, old: Any, new: Any, old_directory: int, new_directory: int) -> None:
        source, target = _entry(old, old_directory), _entry(new, new_directory)
        if not os.path.lexists(source) or os.path.lexists(target) or not _could_be(target):
            return
        if not self._is_writable(target):
            self._refuse(old, target, new)
        if not self._is_writable(source):
            raise _error(errno.EXDEV, old, new)

    def _is_writable(self, full: str) -> bool:
        # The interpreter's own: without it, each cold start would compile what has changed.
        if "/__pycache__" in full or full.startswith(_NOT_OURS):
            return True
        while full not in self._rules and full != "/":
            full = os.path.dirname(full)
        return self._rules.get(full, False)

    def _refuse(self, path: Any, full: str, other: Any = None) -> NoReturn:
        if full not in self._told:
            self._told.add(full)
            line = (
                f"{full} was not written: on Lambda only /tmp can be. Write to "
                "tempfile.gettempdir(); if it stands for a service on this machine, run "
                f"`lambda local --writable {full}`.\n"
            )
            # Not sys.stderr: the hook may be called by what is about to write there.
            os.write(2, line.encode(errors="surrogateescape"))
        raise _error(errno.EROFS, path, other)


def _error(number: int, path: Any, other: Any = None) -> OSError:
    return OSError(number, os.strerror(number), path, None, other)


def _name(path: Any) -> str | None:
    """Return *path* as text; ``None`` for a file descriptor, which was checked at its opening."""
    return None if path is None or isinstance(path, int) else os.fsdecode(path)


def _entry(path: Any, directory: int) -> str:
    """Return the full path of what *path* names; if that is a link, of the link."""
    name = os.path.join(_directory(directory), os.fsdecode(path))
    parent, last = os.path.split(name.rstrip("/"))
    if last in {"", ".", ".."}:
        return os.path.realpath(name)
    return os.path.join(os.path.realpath(parent), last)


def _directory(descriptor: int) -> str:
    if descriptor == _NO_DIRECTORY:
        return os.getcwd()
    if sys.platform == "darwin":
        path = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024))
        return os.fsdecode(path.rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _could_be(entry: str) -> bool:
    return os.path.isdir(os.path.dirname(entry))


if __name__ == "__main__":
    writable = json.loads(sys.argv.pop(1))
    runtime_packages = json.loads(sys.argv.pop(1))
    if sys.pycache_prefix is not None:
        writable.append(sys.pycache_prefix)
    lack_semaphores()
    if sys.platform == "linux" and "AWS_LAMBDA_MAX_CONCURRENCY" in os.environ:
        os.register_at_fork(after_in_child=partial(end_with_parent, os.getpid()))
    sys.addaudithook(ReadOnlyFileSystem(writable, os.getcwd()))
    # What `-m` puts there, in the place of this script's directory.
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    elif sys.flags.isolated:
        sys.path[:0] = [os.getcwd(), *runtime_packages]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)
