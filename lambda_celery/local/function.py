"""A Lambda function on this machine: a pool of execution environments under awslambdaric."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lambda_celery.conf import ENV_PREFIX, FEED_VARIABLE
from lambda_celery.exceptions import ConfigurationError, LambdaCeleryError
from lambda_celery.local.output import Output, ProcessLog
from lambda_celery.local.process import ChildProcess, describe_exit
from lambda_celery.local.runtime_api import Outcome, Request, RuntimeApi

logger = logging.getLogger(__name__)

DEFAULT_HANDLER = "lambda_runtime.handler"
FUNCTION_NAME = "lambda-celery-local"
MAXIMUM_EVENT_BYTES = 6 * 1024 * 1024
#: Lambda gives a handler's module ten seconds; a laptop that does other things gets more.
INIT_TIMEOUT_SECONDS = 60

#: What Lambda takes as a function's time-out: in general, and what an event source mapping of SQS
#: invokes on Lambda Managed Instances.
MAXIMUM_TIMEOUT_SECONDS = 900
MAXIMUM_MANAGED_TIMEOUT_SECONDS = 5400
#: Lambda's own bound of PerExecutionEnvironmentMaxConcurrency.
_MAXIMUM_PER_ENVIRONMENT = 1600

#: Variables without which not much runs here.
_OF_THE_MACHINE = {"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR"}

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


class ConcurrencyReachedError(LambdaCeleryError):
    """As many invocations are under way as the function takes at a time."""


class LocalFunction:
    """Runs a handler as Lambda does: one event at a time in each of up to N processes.

    A process is started when all others are busy, and kept. One that exceeds the
    time-out is killed, and its place is filled by the next invocation, as is that of one
    that crashed. All methods may be called from any thread.

    With *per_execution_environment_max_concurrency* it runs it as on Lambda Managed Instances:
    awslambdaric forks that many processes in an environment, of which each takes one event at a
    time. Nobody kills one that exceeds the time-out. One that has ended is not replaced before
    all of its environment have, and the event that it had taken ends with its time-out.

    A process lacks what one on Lambda lacks: there are no POSIX semaphores, each process has
    a directory for temporary files of its own, and all else is read-only.

    Arguments:
        handler: "module.function", as in Lambda's configuration.
        timeout_seconds: the function's time-out, from when the process takes the event.
        maximum_concurrency: how many events at a time at most.
        per_execution_environment_max_concurrency: how many of these in one environment, on Lambda
            Managed Instances; ``None``: it is not on these.
        environment: variables for the processes, on top of this process's own.
        working_directory: stands for the deployed package's root, and is on the processes'
            import path; default: here.
        writable: files and directories that the handler may write all the same, since they
            stand for a service; a relative path begins at the working directory.
        runtime_packages: with it, nothing that is installed here is on the processes' import
            path, nor what PYTHONPATH names: it is the working directory, these directories,
            which stand for what Lambda's runtime has, and the standard library. Nor have they
            any other of this process's variables than those of AWS and Lambda Celery.
        output: takes the processes' standard output and error; default: this process's own.
        keeps_log_tail: keep the end of what a process writes during an invocation, for its
            outcome; then what it writes comes by here.
        feed: called, on threads of this object, with each line that the runtime writes for the
            local runner: of metrics, and of what has become of a call.

    Raises:
        ConfigurationError: awslambdaric is not installed, or a number is one that Lambda refuses.
    """

    def __init__(
        self,
        handler: str = DEFAULT_HANDLER,
        *,
        timeout_seconds: int = 30,
        maximum_concurrency: int = 4,
        per_execution_environment_max_concurrency: int | None = None,
        environment: Mapping[str, str] | None = None,
        working_directory: Path | None = None,
        writable: Sequence[Path] = (),
        runtime_packages: Sequence[Path] | None = None,
        output: IO[Any] | None = None,
        keeps_log_tail: bool = False,
        feed: Callable[[str], None] | None = None,
    ) -> None:
        if importlib.util.find_spec("awslambdaric") is None:
            raise ConfigurationError(
                "The Lambda runtime client is missing: install `lambda-celery[local]`."
            )
        per_environment = per_execution_environment_max_concurrency
        _check_timeout(timeout_seconds, is_managed=per_environment is not None)
        if per_environment is not None and not 1 <= per_environment <= _MAXIMUM_PER_ENVIRONMENT:
            raise ConfigurationError(
                f"The maximum concurrency of an execution environment is {per_environment}: "
                f"Lambda takes 1 to {_MAXIMUM_PER_ENVIRONMENT}."
            )
        if maximum_concurrency < 1:
            raise ConfigurationError(
                f"The function's maximum concurrency is {maximum_concurrency}: set 1 or more."
            )
        self.handler = handler
        self.timeout_seconds = timeout_seconds
        self.maximum_concurrency = maximum_concurrency
        self.per_execution_environment_max_concurrency = per_environment
        self._most_environments = math.ceil(maximum_concurrency / (per_environment or 1))
        self._working_directory = (working_directory or Path.cwd()).resolve()
        self._environment = lambda_environment(
            handler,
            self._working_directory,
            environment or {},
            is_alone=runtime_packages is not None,
        )
        self._writable = [
            "/tmp",  # noqa: S108 - for who does not ask where temporary files belong
            tempfile.gettempdir(),
            # What renews a developer's credentials keeps them there; Lambda hands them out.
            os.path.expanduser("~/.aws"),
            *(str(self._working_directory / path) for path in writable),
        ]
        self._runtime_packages = runtime_packages
        self._output = Output(output, keeps_tail=keeps_log_tail)
        self._feed = feed
        self._changed = threading.Condition()
        self._environments: list[_ExecutionEnvironment] = []
        #: Those that take one more event; the one used last is the last.
        self._free: list[_ExecutionEnvironment] = []
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
        outcome = self.run(Request(body))
        payload: Any = None
        if outcome.body is not None:
            try:
                payload = json.loads(outcome.body)
            except ValueError:
                payload = outcome.body
        return InvocationResult(payload, outcome.error, time.monotonic() - started)

    def process_ids(self) -> list[int]:
        """Return the ids of the runtime processes that live now; not of what they have forked."""
        with self._changed:
            environments = list(self._environments)
        return [each.pid for each in environments if each.alive and each.pid is not None]

    def recycle(self) -> None:
        """Replace every process: the idle ones now, a busy one after its invocations.

        Each invocation that begins after this call runs in a new process, and so with the
        code that is on disk now.
        """
        with self._changed:
            self._generation += 1
            self._init_failures = 0
            self._start_not_before = 0.0
            stale, self._free = [each for each in self._free if each.invocations == 0], []
            self._environments = [each for each in self._environments if each not in stale]
            self._changed.notify_all()
        for each in stale:
            each.close()

    def close(self) -> None:
        """Kill every process, the busy ones too. Their invocations end with an error."""
        with self._changed:
            self._closed = True
            environments = list(self._environments)
            self._environments, self._free = [], []
            self._changed.notify_all()
        for each in environments:
            each.close()

    def run(self, request: Request, *, waits: bool = True) -> Outcome:
        """Run the handler with *request* as it is, and return what has become of it.

        Arguments:
            request: no larger than Lambda takes it.
            waits: for a place, if as many run as the function takes at a time.

        Raises:
            ConcurrencyReachedError: there is no place, and it does not wait for one.
            LambdaCeleryError: the function has been closed.
        """
        environment = self._acquire(waits)
        attempt = 1
        try:
            while True:
                if not environment.alive:
                    self._wait_for_init_backoff()
                init_error = environment.ensure_ready()
                if init_error is not None:
                    self._note_init_failure()
                    return replace(init_error, error=f"init error {init_error.error}")
                with self._changed:
                    self._init_failures = 0
                outcome = environment.invoke(request, self.timeout_seconds)
                if outcome.taken or attempt == _ATTEMPTS_TO_HAND_OVER:
                    return outcome
                # The process died while it was idle. The handler has not seen the event, so this
                # is no failure of the invocation: Lambda, too, takes another environment.
                attempt += 1
        finally:
            self._release(environment)

    def _acquire(self, waits: bool) -> _ExecutionEnvironment:
        with self._changed:
            while True:
                self._check_open()
                under_way = sum(each.invocations for each in self._environments)
                if under_way >= self.maximum_concurrency:
                    if not waits:
                        raise ConcurrencyReachedError(
                            f"{under_way} invocations are under way, and the function takes no "
                            "more at a time: call again later."
                        )
                    self._changed.wait()
                    continue
                if not self._free and len(self._environments) < self._most_environments:
                    environment = _ExecutionEnvironment(
                        self.handler,
                        self._environment,
                        self._working_directory,
                        self._writable,
                        self._runtime_packages,
                        self._output,
                        self._feed,
                        self._generation,
                        self.per_execution_environment_max_concurrency,
                    )
                    self._environments.append(environment)
                    self._free.append(environment)
                if self._free:
                    environment = self._free[-1]  # it is warm
                    environment.invocations += 1
                    if environment.is_full:
                        self._free.pop()
                    return environment
                self._changed.wait()

    def _release(self, environment: _ExecutionEnvironment) -> None:
        with self._changed:
            environment.invocations -= 1
            stale = self._closed or environment.generation != self._generation
            if not stale:
                if environment in self._free:
                    self._free.remove(environment)
                self._free.append(environment)
                self._changed.notify_all()
                return
            if environment.invocations > 0:
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


def lambda_environment(
    handler: str, task_root: Path, given: Mapping[str, str], *, is_alone: bool = False
) -> dict[str, str]:
    """Return a function's environment: this process's variables, Lambda's own, and those *given*.

    Arguments:
        handler: "module.function".
        task_root: the deployed package's directory.
        given: these win.
        is_alone: leave out the variables of this process that say nothing of AWS, this machine or
            Lambda Celery: on Lambda nobody has set them.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not is_alone or name in _OF_THE_MACHINE or name.startswith(("AWS_", ENV_PREFIX))
    }
    region = next(
        source[name]
        for source in (given, os.environ, {"AWS_REGION": "us-east-1"})
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION")
        if source.get(name)
    )
    lambdas_own = {
        "_HANDLER": handler,
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
        "LAMBDA_TASK_ROOT": str(task_root),
        "TZ": ":UTC",
    }
    return {**inherited, **lambdas_own, **given}


def _check_timeout(seconds: int, *, is_managed: bool) -> None:
    maximum = MAXIMUM_MANAGED_TIMEOUT_SECONDS if is_managed else MAXIMUM_TIMEOUT_SECONDS
    if 1 <= seconds <= maximum:
        return
    longer = ""
    if 1 <= seconds <= MAXIMUM_MANAGED_TIMEOUT_SECONDS:
        longer = (
            f", and up to {MAXIMUM_MANAGED_TIMEOUT_SECONDS} on Lambda Managed Instances "
            "(--per-execution-environment-max-concurrency)"
        )
    raise ConfigurationError(
        f"The function's time-out is {seconds} s: Lambda takes 1 to {maximum}{longer}."
    )


class _ExecutionEnvironment:
    """A place for one runtime process, and that process with its Runtime API, if it lives."""

    def __init__(
        self,
        handler: str,
        environment: Mapping[str, str],
        working_directory: Path,
        writable: Sequence[str],
        runtime_packages: Sequence[Path] | None,
        output: Output,
        feed: Callable[[str], None] | None,
        generation: int,
        max_concurrency: int | None,
    ) -> None:
        self.generation = generation
        #: How many are on their way to it, or in it.
        self.invocations = 0
        self._max_concurrency = max_concurrency
        self._environment = environment
        self._working_directory = working_directory
        self._output = output
        self._log: ProcessLog | None = None
        self._feed = feed
        self._interpreter = [sys.executable]
        if runtime_packages is not None:
            # Neither variables nor what `site` finds: the script puts the path together.
            self._interpreter += ["-I", "-S"]
        script = Path(__file__).with_name("_like_lambda.py")
        packages = [str(each) for each in runtime_packages or ()]
        self._arguments = [str(script), json.dumps(writable), json.dumps(packages), handler]
        self._lock = threading.Lock()
        self._closed = False
        self._api: RuntimeApi | None = None
        self._process: ChildProcess | None = None
        self._tmp: tempfile.TemporaryDirectory[str] | None = None

    @property
    def is_full(self) -> bool:
        return self.invocations >= (self._max_concurrency or 1)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def ensure_ready(self) -> Outcome | None:
        """Start the process if it is not alive, and wait until it wants an event.

        Return ``None`` if it does, else why it does not; then it has been killed.
        """
        with self._lock:
            # Whoever closes the function may do so between an invocation's start and this line:
            # a process that was started now would never be killed.
            if self._closed:
                raise LambdaCeleryError("The local function has been closed: make a new one.")
            if self._api is None or not self.alive:
                self._discard()
                self._api = self._start()
            api, log = self._api, self._log
        init_error = api.wait_until_ready(INIT_TIMEOUT_SECONDS)
        if init_error is None:
            return None
        self._discard_process(api)
        return replace(init_error, log_tail=_tail(log))

    def invoke(self, request: Request, timeout_seconds: float) -> Outcome:
        """Run the handler with *request* in the process, which must be ready."""
        api, log = self._api, self._log
        if api is None:  # closed in the meantime
            reason = "signal SIGKILL"
            return Outcome(error=f"process exited with {reason}", exit=reason, taken=False)
        outcome = replace(api.invoke(request, timeout_seconds), log_tail=_tail(log))
        if outcome.timed_out and self._max_concurrency is None:
            self._discard_process(api)
        return outcome

    def _discard_process(self, api: RuntimeApi) -> None:
        """Kill the process that *api* serves; the next :meth:`ensure_ready` starts another."""
        with self._lock:
            if api is self._api:  # else somebody else has, whose event was in it, too
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
        if self._tmp is not None:
            self._tmp.cleanup()
        self._process = self._api = self._tmp = None

    def _start(self) -> RuntimeApi:
        api = RuntimeApi(
            f"arn:aws:lambda:{self._environment['AWS_REGION']}:000000000000:function:{FUNCTION_NAME}",
            self._max_concurrency or 1,
        )
        self._tmp = tmp = tempfile.TemporaryDirectory(
            prefix="lambda-celery-", ignore_cleanup_errors=True
        )

        def ended(returncode: int) -> None:
            tmp.cleanup()
            api.process_exited(describe_exit(returncode))

        self._log = log = self._output.log()
        variables, pass_on = self._open_feed()
        log_stream = f"{time.strftime('%Y/%m/%d')}/[$LATEST]{os.urandom(16).hex()}"
        try:
            self._process = ChildProcess(
                [*self._interpreter, *self._arguments],
                environment={
                    **self._environment,
                    **self._of_managed_instances(),
                    **variables,
                    **log.variables,
                    "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                    **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), tmp.name),
                },
                working_directory=self._working_directory,
                output=log.stdout,
                error_output=log.stderr,
                pass_on=pass_on,
                on_exit=ended,
            )
        except BaseException:
            api.close()
            tmp.cleanup()
            raise
        finally:
            log.close_ends_of_process()
            for each in pass_on:
                os.close(each)
        logger.debug("Started the runtime process %d", self._process.pid)
        return api

    def _open_feed(self) -> tuple[dict[str, str], list[int]]:
        """Return variables and descriptors with which a process writes to the feed, if any."""
        if self._feed is None:
            return {}, []
        read, write = os.pipe()
        # One for each process: lines of several would be torn.
        threading.Thread(target=_pass_on, args=(read, self._feed), name="feed", daemon=True).start()
        return {FEED_VARIABLE: str(write)}, [write]

    def _of_managed_instances(self) -> dict[str, str]:
        """Return what there is more in the environment on Lambda Managed Instances."""
        if self._max_concurrency is None:
            return {}
        return {
            "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
            "AWS_LAMBDA_MAX_CONCURRENCY": str(self._max_concurrency),
        }


def _tail(log: ProcessLog | None) -> bytes:
    return b"" if log is None else log.tail()


def _pass_on(descriptor: int, feed: Callable[[str], None]) -> None:
    """Call *feed* with each line, until whoever writes them has ended."""
    with open(descriptor, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            feed(line)
