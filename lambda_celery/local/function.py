"""A Lambda function on this machine: a pool of execution environments under awslambdaric."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.local.process import ChildProcess, describe_exit
from lambda_celery.local.runtime_api import Outcome, RuntimeApi

logger = logging.getLogger(__name__)

DEFAULT_HANDLER = "lambda_runtime.handler"
FUNCTION_NAME = "lambda-celery-local"
MAXIMUM_EVENT_BYTES = 6 * 1024 * 1024
#: Lambda gives a handler's module ten seconds; a laptop that does other things gets more.
INIT_TIMEOUT_SECONDS = 60

_INIT_BACKOFF_SECONDS = 0.5
_INIT_BACKOFF_MAX_SECONDS = 10.0
_ATTEMPTS_TO_HAND_OVER = 3


@dataclass(frozen=True)
class InvocationResult:
    """What an invocation ended with.

    Attributes:
        payload: the handler's answer as parsed JSON, or the raw bytes if it is not JSON.
        error: why there is no answer: the handler's error type and message, "timed out after
            N s", "process exited with …" or "init error …"; ``None`` if there is one.
        duration_seconds: from the call to the result, a cold start included.
    """

    payload: Any
    error: str | None
    duration_seconds: float


class LocalFunction:
    """Runs a handler as Lambda does: one event at a time in each of up to N processes.

    A process is started when all others are busy, and kept. One that exceeds the
    time-out is killed, and its place is filled by the next invocation, as is that of one
    that crashed. All methods may be called from any thread.

    Arguments:
        handler: "module.function", as in Lambda's configuration.
        timeout_seconds: the function's time-out, from when the process takes the event.
        maximum_concurrency: how many processes at most.
        environment: variables for the processes, on top of this process's own.
        working_directory: stands for the deployed package's root, and is on the processes'
            import path; default: here.

    Raises:
        ConfigurationError: awslambdaric is not installed, or a number is below 1.
    """

    def __init__(
        self,
        handler: str = DEFAULT_HANDLER,
        *,
        timeout_seconds: int = 30,
        maximum_concurrency: int = 4,
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
    ) -> None:
        if importlib.util.find_spec("awslambdaric") is None:
            raise ConfigurationError(
                "The Lambda runtime client is missing: install `lambda-celery[local]`."
            )
        if not 1 <= timeout_seconds <= 900:
            raise ConfigurationError(
                f"The function's time-out is {timeout_seconds} s: Lambda takes 1 to 900."
            )
        if maximum_concurrency < 1:
            raise ConfigurationError(
                f"The function's maximum concurrency is {maximum_concurrency}: set 1 or more."
            )
        self.handler = handler
        self.timeout_seconds = timeout_seconds
        self.maximum_concurrency = maximum_concurrency
        self._working_directory = (working_directory or Path.cwd()).resolve()
        self._environment = self._lambda_environment(environment or {})
        self._changed = threading.Condition()
        self._environments: list[_ExecutionEnvironment] = []
        self._idle: list[_ExecutionEnvironment] = []
        self._generation = 0
        self._closed = False
        self._init_failures = 0
        self._start_not_before = 0.0

    def __enter__(self) -> LocalFunction:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def invoke(self, event: Mapping[str, Any]) -> InvocationResult:
        """Run the handler with *event*; wait for a free process first, if need be.

        Raises :exc:`LambdaCeleryError` if the event exceeds Lambda's 6 MB, or if the
        function has been closed. What goes wrong in the handler is in the result.
        """
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        if len(body) > MAXIMUM_EVENT_BYTES:
            raise LambdaCeleryError(
                f"The event has {len(body)} bytes, but Lambda takes {MAXIMUM_EVENT_BYTES} at most: "
                "send fewer records."
            )
        started = time.monotonic()
        outcome = self._run(body)
        payload: Any = None
        if outcome.body is not None:
            try:
                payload = json.loads(outcome.body)
            except ValueError:
                payload = outcome.body
        return InvocationResult(payload, outcome.error, time.monotonic() - started)

    def process_ids(self) -> list[int]:
        """Return the ids of the runtime processes that live now."""
        with self._changed:
            environments = list(self._environments)
        return [each.pid for each in environments if each.alive and each.pid is not None]

    def recycle(self) -> None:
        """Replace every process: the idle ones now, a busy one after its invocation.

        Each invocation that begins after this call runs in a new process, and so with the
        code that is on disk now.
        """
        with self._changed:
            self._generation += 1
            self._init_failures = 0
            self._start_not_before = 0.0
            stale, self._idle = self._idle, []
            self._environments = [each for each in self._environments if each not in stale]
            self._changed.notify_all()
        for each in stale:
            each.close()

    def close(self) -> None:
        """Kill every process, the busy ones too. Their invocations end with an error."""
        with self._changed:
            self._closed = True
            environments = list(self._environments)
            self._environments, self._idle = [], []
            self._changed.notify_all()
        for each in environments:
            each.close()

    def _run(self, body: bytes) -> Outcome:
        environment = self._acquire()
        attempt = 1
        try:
            while True:
                if not environment.alive:
                    self._wait_for_init_backoff()
                init_error = environment.ensure_ready()
                if init_error is not None:
                    self._note_init_failure()
                    environment.discard_process()
                    return Outcome(error=f"init error {init_error}")
                with self._changed:
                    self._init_failures = 0
                outcome = environment.invoke(body, self.timeout_seconds)
                if outcome.taken or attempt == _ATTEMPTS_TO_HAND_OVER:
                    return outcome
                # The process died while it was idle. The handler has not seen the event, so this
                # is no failure of the invocation: Lambda, too, takes another environment.
                attempt += 1
        finally:
            self._release(environment)

    def _acquire(self) -> _ExecutionEnvironment:
        with self._changed:
            while True:
                self._check_open()
                if self._idle:
                    return self._idle.pop()  # the one used last: it is warm
                if len(self._environments) < self.maximum_concurrency:
                    environment = _ExecutionEnvironment(
                        self.handler, self._environment, self._working_directory, self._generation
                    )
                    self._environments.append(environment)
                    return environment
                self._changed.wait()

    def _release(self, environment: _ExecutionEnvironment) -> None:
        with self._changed:
            stale = self._closed or environment.generation != self._generation
            if not stale:
                self._idle.append(environment)
                self._changed.notify_all()
                return
        # Its place is free only when it is gone, so that there are never more than N processes.
        environment.close()
        with self._changed:
            if environment in self._environments:
                self._environments.remove(environment)
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise LambdaCeleryError("The local function has been closed: make a new one.")

    def _note_init_failure(self) -> None:
        with self._changed:
            delay = min(_INIT_BACKOFF_SECONDS * 2**self._init_failures, _INIT_BACKOFF_MAX_SECONDS)
            self._init_failures += 1
            self._start_not_before = time.monotonic() + delay

    def _wait_for_init_backoff(self) -> None:
        """Wait, after a handler that could not be loaded, before it is tried again."""
        with self._changed:
            self._check_open()
            while (remaining := self._start_not_before - time.monotonic()) > 0:
                self._changed.wait(remaining)
                self._check_open()

    def _lambda_environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of the processes: this process's, Lambda's own, *given*."""
        region = next(
            source[name]
            for source in (given, os.environ, {"AWS_REGION": "us-east-1"})
            for name in ("AWS_REGION", "AWS_DEFAULT_REGION")
            if source.get(name)
        )
        task_root = str(self._working_directory)
        lambdas_own = {
            "_HANDLER": self.handler,
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": (
                f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}"
            ),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{FUNCTION_NAME}",
            "AWS_REGION": region,
            "LAMBDA_TASK_ROOT": task_root,
            "TZ": ":UTC",
        }
        return {**os.environ, **lambdas_own, **given}


class _ExecutionEnvironment:
    """A place for one runtime process, and that process with its Runtime API, if it lives."""

    def __init__(
        self,
        handler: str,
        environment: Mapping[str, str],
        working_directory: Path,
        generation: int,
    ) -> None:
        self.generation = generation
        self._handler = handler
        self._environment = environment
        self._working_directory = working_directory
        self._lock = threading.Lock()
        self._closed = False
        self._api: RuntimeApi | None = None
        self._process: ChildProcess | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def ensure_ready(self) -> str | None:
        """Start the process if it is not alive, and wait until it wants an event.

        Return ``None`` if it does, else why it does not.
        """
        with self._lock:
            # Whoever closes the function may do so between an invocation's start and this line:
            # a process that was started now would never be killed.
            if self._closed:
                raise LambdaCeleryError("The local function has been closed: make a new one.")
            if self._api is None or not self.alive:
                self._discard()
                self._api = self._start()
            api = self._api
        return api.wait_until_ready(INIT_TIMEOUT_SECONDS)

    def invoke(self, event: bytes, timeout_seconds: float) -> Outcome:
        """Run the handler with *event* in the process, which must be ready."""
        api = self._api
        if api is None:  # closed in the meantime
            return Outcome(error="process exited with signal SIGKILL", taken=False)
        outcome = api.invoke(event, timeout_seconds)
        if outcome.timed_out:
            self.discard_process()
        return outcome

    def discard_process(self) -> None:
        """Kill the process, if there is one; the next :meth:`ensure_ready` starts another."""
        with self._lock:
            self._discard()

    def close(self) -> None:
        """Kill the process, if there is one, for good. Return when it is gone."""
        with self._lock:
            self._closed = True
            self._discard()

    def _discard(self) -> None:
        if self._process is not None:
            self._process.kill()
        if self._api is not None:
            self._api.close()
        self._process = self._api = None

    def _start(self) -> RuntimeApi:
        api = RuntimeApi(
            f"arn:aws:lambda:{self._environment['AWS_REGION']}:000000000000:function:{FUNCTION_NAME}"
        )
        log_stream = f"{time.strftime('%Y/%m/%d')}/[$LATEST]{os.urandom(16).hex()}"
        try:
            self._process = ChildProcess(
                [sys.executable, "-m", "awslambdaric", self._handler],
                environment={
                    **self._environment,
                    "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                },
                working_directory=self._working_directory,
                on_exit=lambda returncode: api.process_exited(describe_exit(returncode)),
            )
        except BaseException:
            api.close()
            raise
        logger.debug("Started the runtime process %d", self._process.pid)
        return api
