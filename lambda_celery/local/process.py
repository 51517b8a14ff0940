"""Child processes that never outlive this process, nor leave children of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

# PR_SET_PDEATHSIG fires when the *thread* that made the child ends, not the process. So every
# child is made by this one thread, which lives as long as the interpreter.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lambda-celery-spawner")


def describe_exit(returncode: int) -> str:
    """Return how a process ended, to follow the words "process exited with"."""
    if returncode >= 0:
        return f"status {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


class ChildProcess:
    """A program in a process group of its own.

    Its whole group is killed when it ends, and it is sent *death_signal* when this
    process ends in whatever way (on Linux; elsewhere only on an orderly end).

    Arguments:
        arguments: the program's path, and its arguments.
        environment: all of its environment variables.
        working_directory: where it runs; default: here.
        output: takes its standard output and error; default: this process's own.
        error_output: takes its standard error, if this is to go elsewhere.
        pass_on: file descriptors that it has, too, under the same numbers.
        on_exit: called once with the return code, on a thread of this object.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        working_directory: Path | None = None,
        output: IO[Any] | int | None = None,
        error_output: IO[Any] | int | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        pass_on: Sequence[int] = (),
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._reaped = False
        self.ended = threading.Event()
        if sys.platform == "linux":
            shim = Path(__file__).with_name("_exec_with_parent.py")
            arguments = [
                *(sys.executable, "-I", "-S", str(shim), str(os.getpid()), str(int(death_signal))),
                *arguments,
            ]
        self._popen: subprocess.Popen[bytes] = _spawner.submit(
            subprocess.Popen,
            arguments,
            env=dict(environment),
            cwd=working_directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output if error_output is None else error_output,
            pass_fds=pass_on,
            # Its own session: Ctrl-C in the terminal is for us alone, to end it in order.
            start_new_session=True,
        ).result()
        self.pid = self._popen.pid
        threading.Thread(target=self._reap, name=f"reaper-{self.pid}", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return not self.ended.is_set()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all of its group; no error if it has ended."""
        with self._lock:
            if not self._reaped:
                self._signal_group(number)

    def kill(self) -> None:
        """Kill the process and its group at once, and return when it is gone."""
        self.send_signal(signal.SIGKILL)
        self.ended.wait()

    def terminate(self, timeout_seconds: float) -> None:
        """Ask the process to end; kill it if it has not after *timeout_seconds*."""
        self.send_signal(signal.SIGTERM)
        if not self.ended.wait(timeout_seconds):
            self.kill()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        # Wait without reaping first: as long as the zombie is there, its process group's number
        # cannot be given to strangers, so that killing what it left behind is safe.
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:  # macOS
            self._popen.wait()
        with self._lock:
            self._signal_group(signal.SIGKILL)
            returncode = self._popen.wait()
            self._reaped = True
        self.ended.set()
        if self._on_exit is not None:
            self._on_exit(returncode)
