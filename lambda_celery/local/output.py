"""Where the runtime processes' standard output and error go, and the end of what they write."""

from __future__ import annotations

import os
import selectors
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from lambda_celery.terminal import is_coloured

#: So much of it Lambda hands to who invokes the function with ``LogType=Tail``.
TAIL_BYTES = 4096
_CHUNK_BYTES = 65_536


class Output:
    """Takes what processes write.

    Arguments:
        file: where it goes; default: this process's own standard output and error.
        keeps_tail: keep the end of what each process writes.
    """

    def __init__(self, file: IO[Any] | None, *, keeps_tail: bool) -> None:
        self._file = file
        self._keeps_tail = keeps_tail
        self._lock = threading.Lock()

    def log(self) -> ProcessLog:
        """Return what takes the output of one process that is about to start."""
        return ProcessLog(self._file, self._lock if self._keeps_tail else None)


class ProcessLog:
    """Takes what one process writes: directly, or with a lock by way of two pipes.

    Arguments:
        file: where it goes; default: this process's own standard output and error.
        writing: held while lines of one process are written, so that those of another one do not
            tear them.
    """

    def __init__(self, file: IO[Any] | None, writing: threading.Lock | None) -> None:
        self.stdout: IO[Any] | int | None = file
        self.stderr: IO[Any] | int | None = file
        #: For the process's environment.
        self.variables: dict[str, str] = {}
        self._writing = writing
        self._reading = threading.Lock()
        self._tail = b""
        #: By the descriptor that is read: where it goes, and the line that has not ended yet.
        self._targets: dict[int, int] = {}
        self._begun: dict[int, bytes] = {}
        self._ends_of_process: list[int] = []
        if writing is not None:
            self._open_pipes(file)

    def close_ends_of_process(self) -> None:
        """Leave the pipes to the process, which has started: they end with it."""
        for each in self._ends_of_process:
            os.close(each)
        self._ends_of_process.clear()

    def tail(self) -> bytes:
        """Return the end of what the process has written since this was last asked."""
        with self._reading:
            # What the process wrote before it answered is in the pipes, though nobody may have
            # read it yet.
            self._read()
            self._pass_on_begun()
            tail, self._tail = self._tail, b""
        return tail

    def _open_pipes(self, file: IO[Any] | None) -> None:
        if file is None and is_coloured(sys.stdout):
            # The process cannot see that a terminal is behind the pipe.
            self.variables = {"FORCE_COLOR": "1"}
        for target in (1, 2) if file is None else (file.fileno(),):
            read, write = os.pipe()
            os.set_blocking(read, False)
            self._targets[read] = target
            self._begun[read] = b""
            self._ends_of_process.append(write)
        self.stdout, self.stderr = self._ends_of_process[0], self._ends_of_process[-1]
        threading.Thread(target=self._keep_reading, name="process-log", daemon=True).start()

    def _keep_reading(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in self._targets:
                selector.register(each, selectors.EVENT_READ)
            while self._targets:
                selector.select()
                with self._reading:
                    for ended in self._read():
                        selector.unregister(ended)
                        self._pass_on_begun()
                        del self._targets[ended]
                        os.close(ended)

    def _read(self) -> list[int]:
        """Read and pass on what there is; return the pipes that have ended."""
        ended = []
        for each in self._targets:
            with suppress(BlockingIOError):
                while chunk := os.read(each, _CHUNK_BYTES):
                    self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                    lines, newline, begun = (self._begun[each] + chunk).rpartition(b"\n")
                    self._begun[each] = begun
                    self._write(self._targets[each], lines + newline)
                ended.append(each)
        return ended

    def _pass_on_begun(self) -> None:
        for each, target in self._targets.items():
            self._write(target, self._begun[each])
            self._begun[each] = b""

    def _write(self, target: int, data: bytes) -> None:
        assert self._writing is not None
        with self._writing, suppress(OSError):  # whoever read it has gone
            while data:
                data = data[os.write(target, data) :]
