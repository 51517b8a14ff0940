"""Running one task by Celery's own tracer, with SQS's idea of a failure.

The tracer does signals, ``on_*``, link and chain, chord parts and results. Two
things are put into it:

- the class that it calls for a task that raised (:class:`AttemptInfo`): while
  attempts are left, a failure is a retry, and nothing is announced as failed;
- a wrapper around the task's body, which enforces the time limits and knows whether the
  body is through, for what fails after that must not lead to a second run.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from celery import Celery, Task, signals
from celery.app import trace
from celery.app.task import Context
from celery.exceptions import (
    BackendError,
    Ignore,
    Reject,
    Retry,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.states import FAILURE, REJECTED, RETRY
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from lambda_celery import aws
from lambda_celery.celery_hooks.async_tasks import UNFINISHED as UNFINISHED_RESULTS
from lambda_celery.celery_hooks.async_tasks import RunBy, finish, is_async
from lambda_celery.celery_hooks.registry import async_names
from lambda_celery.publishing import marks
from lambda_celery.trace_context import note_end
from lambda_runtime.celery_hooks import tracing
from lambda_runtime.log import retry_told
from lambda_runtime.messages.outcome import Deleted, End, Outcome, Parked, Returned
from lambda_runtime.running.attempt import Attempt, current, is_requeued
from lambda_runtime.running.failure_policy import UNFINISHED, outcome_of_failure
from lambda_runtime.running.left_behind import Tidied
from lambda_runtime.running.limits.limit import HardTimeLimit, InvocationEnds
from lambda_runtime.running.limits.time_limits import call_until, call_within
from lambda_runtime.running.limits.watchdog import Kept
from lambda_runtime.running.run_times import RunTimes
from lambda_runtime.running.task_state import TaskState
from lambda_runtime.running.worker_state import Counted

logger = logging.getLogger(__name__)

#: What publishing raises where the broker, ours or another, is at fault.
_BROKER_ERRORS = (OperationalError, *aws.AWS_ERRORS)
#: What a body raises that is no failure.
_WISHES = (Retry, Ignore, Reject)
#: Held while it is decided whether a body may begin, or all are left to themselves.
_beginning = threading.Lock()


class TaskRunner:
    """Runs the tasks of *app* in this process."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._tracers: dict[str, Callable[..., Any]] = {}
        self._under_way: dict[int, Attempt] = {}
        self._state = TaskState()
        self.run_times = RunTimes()
        signals.after_task_publish.connect(_note_publication)

    def runs_on_loop(self, request: Request) -> bool:
        """Whether nothing but its coroutine may take time, so that no thread has to wait for it."""
        # With that, Django's connections may be open on the loop's thread, among the bodies.
        is_unsafe = "DJANGO_ALLOW_ASYNC_UNSAFE" in os.environ
        if is_unsafe or request.task.name not in async_names(self._app):
            return False
        from lambda_runtime.running import greenlets

        return greenlets.ARE_USABLE and tracing.waits_for_nothing(request)

    def run(self, request: Request, attempt: Attempt) -> Outcome:
        """Run the task of *request* and return what becomes of its message.

        Raises nothing of the task's.
        """
        return self._state.call(attempt, partial(self._run_counted, request, attempt))

    def _run_counted(self, request: Request, attempt: Attempt) -> Outcome:
        self._app.set_current()  # on the event loop's thread, nobody else has done it
        token = current.set(attempt)
        started = time.monotonic()
        self._under_way[id(attempt)] = attempt
        try:
            with Counted(request) as ended, marks.Running(attempt.call):
                outcome = self._run(request, attempt)
                ended.with_success = attempt.body_finished and isinstance(outcome, Deleted)
                return outcome
        finally:
            attempt.is_over = True
            current.reset(token)
            del self._under_way[id(attempt)]
            self.run_times.note(request.type, time.monotonic() - started)

    def abandon(self) -> bool:
        """Leave the tasks that are under way to themselves, if no body runs; return whether."""
        with _beginning:
            under_way = list(self._under_way.values())
            if any(each.started and not each.body_ended for each in under_way):
                return False
            for each in under_way:
                each.is_abandoned = True
        for each in under_way:  # its body may have ended after it was to be told
            each.note_late()
        return True

    def worker_lost(self, request: Request, attempt: Attempt) -> Outcome:
        """Settle a task whose earlier run ended with its process, as a worker would."""
        if _success_is_stored(request, attempt):
            return Deleted("succeeded before its process was lost", End.SUCCEEDED)
        lost = WorkerLostError(
            "An earlier run of this task ended with its process, and it is not to be run again."
        )
        token = current.set(attempt)
        try:
            # FAILURE and task_failure; or the retry that retry_on_worker_lost asks for.
            with marks.Running(attempt.call):
                info = tracing.exception_info(lost)
                call_until(attempt.ends_in_seconds, partial(request.on_failure, info))
        except (Exception, InvocationEnds) as exc:
            _log_not_stored(request.humaninfo(), exc)
        finally:
            current.reset(token)
        if attempt.sent_on:
            return Deleted("lost with its process, and retried as a new message", End.RETRIED)
        return Parked("the process was lost", lost)

    def killed(self, request: Request, attempt: Attempt, seconds: float) -> Outcome:
        """Settle a task whose process was killed, for it had outlived its hard limit."""
        context = _context(request)
        failure = _hard_limit_exceeded(request.task, context, HardTimeLimit(seconds))
        attempt.started = True
        token = current.set(attempt)
        try:
            with marks.Running(attempt.call):
                return record_failure(request.task, Context(context), failure, attempt)
        finally:
            current.reset(token)

    def _run(self, request: Request, attempt: Attempt) -> Outcome:
        task: Task = request.task
        context = _context(request)
        trace = partial(self._tracer(task), request.id, request.args, request.kwargs, context)
        try:
            _, info, _, _ = call_until(attempt.ends_in_seconds, trace, attempt.note_late)
        except Reject as exc:  # from on_success or after_return
            return attempt.outcome or self._rejected(request, exc, attempt)
        except BaseException as exc:
            return self._escaped(task, context, exc, attempt)
        if attempt.outcome is not None:
            return attempt.outcome
        if attempt.chord_error is not None:
            return Parked(UNFINISHED, attempt.chord_error, has_run=True)
        if info is None:
            return Deleted("succeeded", End.SUCCEEDED)
        if info.state == REJECTED:
            return self._rejected(request, info.retval, attempt)
        # IGNORED, or RETRY by Task.retry(), which has sent a message of its own.
        return Deleted(info.state.lower(), End.RETRIED if info.state == RETRY else End.IGNORED)

    def _tracer(self, task: Task) -> Callable[..., Any]:
        if (found := self._tracers.get(task.name)) is not None:
            return found
        tracing.wrap_body(task, _call_body)
        tracing.watch_retry(task, _note_retry_error)
        tracing.watch_backend(
            task.backend, _note_result_error, _note_chord_error, _note_result_stored
        )
        tracer = tracing.make_tracer(self._app, task, self._hostname, AttemptInfo)
        self._tracers[task.name] = tracer
        return tracer

    def _escaped(
        self, task: Task, context: dict[str, Any], exc: BaseException, attempt: Attempt
    ) -> Outcome:
        """Settle what left the tracer: a hard limit, ``sys.exit``, a back end that is down."""
        if attempt.outcome is not None:
            # The task's own failure had been decided on; what came after is of the back end.
            _log_not_stored(_label(task, context), exc)
            return attempt.outcome
        if isinstance(exc, InvocationEnds):
            return _cut_off(task, context, exc, attempt)
        if isinstance(exc, HardTimeLimit):
            exc = _hard_limit_exceeded(task, context, exc)
        elif not isinstance(exc, Exception):
            exc = WorkerLostError(f"The task raised {type(exc).__name__}: {exc}.")
        return record_failure(task, Context(context), exc, attempt)

    def _rejected(self, request: Request, exc: Reject, attempt: Attempt) -> Outcome:
        is_of_retry = exc is attempt.retry_error
        if is_of_retry and isinstance(exc.reason, _BROKER_ERRORS):
            # Not the task's wish: retry() could not publish. The message is still here.
            failure = exc.reason.with_traceback(None)
            return record_failure(request.task, Context(request.request_dict), failure, attempt)
        outcome = _as_wished(exc, attempt)
        if isinstance(outcome, Returned):
            return outcome
        try:
            # FAILURE and task_failure, as in a worker.
            info = tracing.exception_info(exc)
            call_until(attempt.ends_in_seconds, partial(request.on_failure, info, return_ok=True))
        except (Exception, InvocationEnds) as failure:
            _log_not_stored(request.humaninfo(), failure)
        return outcome


class AttemptInfo(trace.TraceInfo):
    """What the tracer calls for a task that raised. Decides once, and lets Celery record it."""

    __slots__ = ("retval", "state")

    def __init__(self, state: str, retval: Any = None) -> None:
        self.state = state
        self.retval = retval

    def handle_error_state(
        self, task: Task, req: Context, eager: bool = False, call_errbacks: bool = True
    ) -> Any:
        """Record a failure as what it is here: a failure, or a retry by SQS."""
        attempt = current.get()
        assert attempt is not None
        if self.state == FAILURE:
            if attempt.outcome is not None:
                # Recording the first failure failed itself, and the tracer comes again with that.
                _log_not_stored(_label(task, req), self.retval)
                return None
            outcome = attempt.outcome = outcome_of_failure(task, req, self.retval, attempt)
            if isinstance(outcome, Returned):
                self.state, self.retval = RETRY, _retry_by_queue(task, req, self.retval, attempt)
        if attempt.comes_back:
            with retry_told():
                return super().handle_error_state(task, req, eager=eager, call_errbacks=False)
        return super().handle_error_state(task, req, eager=eager, call_errbacks=call_errbacks)


def _retry_by_queue(task: Task, req: Context, exc: Exception, attempt: Attempt) -> Retry:
    """Tell that *task* raised *exc* and its message comes back; return what Celery calls it."""
    assert isinstance(attempt.outcome, Returned)
    seconds = attempt.outcome.delay_seconds
    # Celery logs a retry without its reason's traceback; nobody asked for this one.
    logger.warning(
        "%s raised, and comes back in %d s", _label(task, req), seconds, exc_info=exc,
        extra={"end": End.RETRIED.value},
    )  # fmt: skip
    attempt.comes_back = True
    return Retry(exc=exc, when=seconds)


def record_failure(task: Task, req: Context, exc: BaseException, attempt: Attempt) -> Outcome:
    """Record a failure that the tracer did not see, as the tracer would have."""
    try:
        try:
            raise exc
        except BaseException:
            record = partial(AttemptInfo(FAILURE, exc).handle_error_state, task, req)
            call_until(attempt.ends_in_seconds, record)
    except (Exception, InvocationEnds) as failure:
        _log_not_stored(_label(task, req), failure)
    return attempt.outcome or Returned("failed", attempt.backoff_seconds)


def _hard_limit_exceeded(
    task: Task, context: Mapping[str, Any], limit: HardTimeLimit
) -> TimeLimitExceeded:
    label = _label(task, context)
    logger.error("Hard time limit (%ss) exceeded for %s", limit.seconds, label)
    return limit.as_failure()


def _context(request: Request) -> dict[str, Any]:
    """Return what the tracer makes the task's request of."""
    _, _, embed = request.body
    return {
        **request.request_dict,
        **embed,
        "args": request.args,
        "kwargs": request.kwargs,
        "is_eager": False,
    }


def _success_is_stored(request: Request, attempt: Attempt) -> bool:
    """Whether the result back end says so; one that does not answer in time says nothing."""
    # Less than there is, for its failure is to be recorded.
    seconds = attempt.ends_in_seconds / 2
    try:
        return bool(call_until(seconds, partial(tracing.success_is_stored, request)))
    except InvocationEnds:
        return False


def _cut_off(task: Task, context: dict[str, Any], exc: InvocationEnds, attempt: Attempt) -> Outcome:
    """Settle what was cut off by the invocation's end.

    Outside of the body, whoever did not answer then is not asked again: so no state is stored.
    """
    label = _label(task, context)
    if attempt.sent_on:
        return Deleted("failed, after it had sent its own retry", End.RETRIED)
    if attempt.wish is not None:
        return _as_wished(attempt.wish, attempt)
    if any(type(each) not in UNFINISHED_RESULTS for each in attempt.kept.results):
        attempt.body_finished = True  # it was cut off in between
    if attempt.started and not attempt.body_finished:
        logger.error(
            "%s was cut off by the invocation's end, because it has swallowed its soft time limit.",
            label,
        )
        if attempt.last:
            return Parked("failed", exc.as_failure())
        return Returned("the invocation's time ran out", attempt.backoff_seconds)
    logger.error(
        "%s %s the invocation's time ran out: the result back end, a broker or a signal's "
        "receiver did not answer. Give its client a time-out of a few seconds.",
        label, "has run, but in what follows it" if attempt.body_finished else "has not run:",
    )  # fmt: skip
    if not attempt.body_finished:
        return Returned("the invocation's time ran out before it", attempt.backoff_seconds)
    if attempt.result_is_stored and attempt.chord_error is None:
        return Deleted("succeeded", End.SUCCEEDED)
    if attempt.result_error is exc and not context.get("chord"):
        return Deleted("succeeded, but its result could not be stored in time", End.SUCCEEDED)
    return Parked(UNFINISHED, exc.as_failure(), has_run=True)


def _as_wished(wish: BaseException, attempt: Attempt) -> Outcome:
    if not isinstance(wish, Reject):
        end = End.RETRIED if isinstance(wish, Retry) else End.IGNORED
        return Deleted(type(wish).__name__.lower(), end)
    if is_requeued(wish):
        return Returned("rejected, to be requeued", attempt.backoff_seconds)
    return Parked("rejected", wish)


def _note_publication(headers: Mapping[str, Any] | None = None, body: Any = None, **_: Any) -> None:
    attempt = current.get()
    if attempt is None:
        return
    sent = headers if headers and "id" in headers else body  # protocol 1 has it in the body
    if isinstance(sent, Mapping) and sent.get("id") == attempt.task_id:
        attempt.sent_on = True


def _note_retry_error(exc: BaseException) -> None:
    if (attempt := current.get()) is not None:
        attempt.retry_error = exc


def _note_result_error(exc: BaseException) -> None:
    if (attempt := current.get()) is not None:
        attempt.result_error = exc


def _note_result_stored() -> None:
    if (attempt := current.get()) is not None:
        attempt.result_is_stored = True


def _note_chord_error(exc: BaseException) -> None:
    attempt = current.get()
    if attempt is not None and isinstance(exc, (*_BROKER_ERRORS, BackendError)):
        attempt.chord_error = exc


def _call_body(task: Task, body: Callable[[], Any], directly: Callable[[], Any]) -> Any:
    """Return ``body()``, the call of *task*, under the attempt's time limits if it is the attempt.

    A task that is called *directly*, from a body, a hook or a signal's receiver, is not: only
    the attempt's own request has its id.
    """
    attempt = current.get()
    if attempt is None or attempt.started or task.request.id != attempt.task_id:
        return directly()
    with _beginning:
        if attempt.is_abandoned:
            raise InvocationEnds(0.0)  # another invocation may be running it by now
        attempt.started = True
    try:
        with attempt.watch(), Tidied(f"Task {task.name}[{attempt.task_id}]"):
            result = _limited(task, attempt, body)
        attempt.returned = result
        attempt.body_finished = True
    except _WISHES as exc:
        if exc is not attempt.retry_error:  # that one could not be published
            attempt.wish = exc
        raise
    except Exception as exc:
        outcome = outcome_of_failure(task, task.request, exc, attempt)
        if not isinstance(outcome, Returned):
            raise  # the tracer records it, and comes to the same
        # What others put around this, as Sentry does, is to see a retry where there is one.
        attempt.outcome = outcome
        retry = _retry_by_queue(task, task.request, exc, attempt)
        raise retry.with_traceback(exc.__traceback__) from None
    except BaseException as exc:  # the process's end, or a limit's
        note_end(exc.as_failure() if isinstance(exc, HardTimeLimit) else exc)
        raise
    finally:
        attempt.body_ended = True
    return result


def _limited(task: Task, attempt: Attempt, body: Callable[[], Any]) -> Any:
    """Return ``body()``, the call of *task*, under the time limits of *attempt*."""
    limited = _Limited(task, attempt)
    if is_async(task):
        # Not around it all: on this thread they could only end the waiting for the coroutine.
        with RunBy(limited):
            return body()
    result = limited.call(body)
    if type(result) not in UNFINISHED_RESULTS:
        return result
    with RunBy(limited):
        return finish(task, result)


class _Limited:
    """Runs what *task* consists of, one after the other, under the time limits of *attempt*."""

    def __init__(self, task: Task, attempt: Attempt) -> None:
        self._task = task
        self._attempt = attempt
        self._passed = 0.0

    def call(self, function: Callable[[], Any]) -> Any:
        """Return ``function()``, called on this thread."""
        started = time.monotonic()
        soft, hard = self._attempt.soft_time_limit, self._attempt.hard_time_limit
        self._attempt.kept = Kept()
        result = call_within(soft, hard, function, self._attempt.kept)
        self._passed = time.monotonic() - started
        return result

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what *coroutine* returns, which runs on the event loop."""
        from lambda_runtime.running import event_loop  # asyncio, for those who have such tasks

        return event_loop.run(
            coroutine, name=self._task.name, task_id=self._attempt.task_id,
            soft_seconds=self._attempt.soft_time_limit,
            hard_seconds=self._attempt.hard_time_limit,
            passed_seconds=self._passed,
            ends_in_seconds=self._attempt.body_ends_at - time.monotonic(),
        )  # fmt: skip


def _log_not_stored(label: str, exc: BaseException) -> None:
    logger.error("The state of %s could not be stored: %r", label, exc)


def _label(task: Task, req: Any) -> str:
    return f"{task.name}[{req.get('id')}]"
