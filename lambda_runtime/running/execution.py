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
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from celery import Celery, Task, signals
from celery.app import trace
from celery.app.task import Context
from celery.exceptions import BackendError, Reject, Retry, WorkerLostError
from celery.states import FAILURE, REJECTED, RETRY
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from lambda_celery import aws
from lambda_celery.celery_hooks.async_tasks import UNFINISHED as UNFINISHED_RESULTS
from lambda_celery.celery_hooks.async_tasks import finish, is_async, run_by
from lambda_celery.publishing import marks
from lambda_runtime.celery_hooks import tracing
from lambda_runtime.log import retry_told
from lambda_runtime.messages.outcome import Deleted, Outcome, Parked, Returned
from lambda_runtime.running.attempt import Attempt, current
from lambda_runtime.running.failure_policy import UNFINISHED, outcome_of_failure
from lambda_runtime.running.limits.limit import HardTimeLimit, InvocationEnds
from lambda_runtime.running.limits.time_limits import TimeLimits, call_until
from lambda_runtime.running.run_times import RunTimes

logger = logging.getLogger(__name__)

#: What publishing raises where the broker, ours or another, is at fault.
_BROKER_ERRORS = (OperationalError, *aws.AWS_ERRORS)


class TaskRunner:
    """Runs the tasks of *app* in this process."""

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname
        self._tracers: dict[str, Callable[..., Any]] = {}
        self._under_way: dict[int, Attempt] = {}
        self.run_times = RunTimes()
        signals.after_task_publish.connect(_note_publication)

    def run(self, request: Request, attempt: Attempt) -> Outcome:
        """Run the task of *request* and return what becomes of its message.

        Raises nothing of the task's.
        """
        token = current.set(attempt)
        started = time.monotonic()
        self._under_way[id(attempt)] = attempt
        try:
            with marks.running(attempt.call):
                return self._run(request, attempt)
        finally:
            attempt.is_over = True
            current.reset(token)
            del self._under_way[id(attempt)]
            self.run_times.note(request.type, time.monotonic() - started)

    @property
    def bodies_are_through(self) -> bool:
        """Whether no task that is under way does any work, or may yet begin to."""
        return all(each.body_ended for each in list(self._under_way.values()))

    def abandon(self) -> None:
        """Leave the tasks that are under way to themselves."""
        for each in list(self._under_way.values()):
            each.is_abandoned = True

    def worker_lost(self, request: Request, attempt: Attempt) -> Outcome:
        """Settle a task whose earlier run ended with its process, as a worker would."""
        if tracing.success_is_stored(request):
            return Deleted("succeeded before its process was lost")
        lost = WorkerLostError(
            "An earlier run of this task ended with its process, and it is not to be run again."
        )
        token = current.set(attempt)
        try:
            # FAILURE and task_failure; or the retry that retry_on_worker_lost asks for.
            with marks.running(attempt.call):
                info = tracing.exception_info(lost)
                call_until(attempt.ends_in_seconds, partial(request.on_failure, info))
        except (Exception, InvocationEnds) as exc:
            _log_not_stored(request.humaninfo(), exc)
        finally:
            current.reset(token)
        if attempt.sent_on:
            return Deleted("lost with its process, and retried as a new message")
        return Parked("the process was lost", lost)

    def _run(self, request: Request, attempt: Attempt) -> Outcome:
        task: Task = request.task
        _, _, embed = request.body
        context = {
            **request.request_dict,
            **embed,
            "args": request.args,
            "kwargs": request.kwargs,
            "is_eager": False,
        }
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
            return Deleted("succeeded")
        if info.state == REJECTED:
            return self._rejected(request, info.retval, attempt)
        # IGNORED, or RETRY by Task.retry(), which has sent a message of its own.
        return Deleted(info.state.lower())

    def _tracer(self, task: Task) -> Callable[..., Any]:
        if (found := self._tracers.get(task.name)) is not None:
            return found
        tracing.wrap_body(task, _call_body)
        tracing.watch_retry(task, _note_retry_error)
        tracing.watch_backend(task.backend, _note_result_error, _note_chord_error)
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
            label = _label(task, context)
            logger.error("Hard time limit (%ss) exceeded for %s", exc.seconds, label)
            exc = exc.as_failure()
        elif not isinstance(exc, Exception):
            exc = WorkerLostError(f"The task raised {type(exc).__name__}: {exc}.")
        return record_failure(task, Context(context), exc, attempt)

    def _rejected(self, request: Request, exc: Reject, attempt: Attempt) -> Outcome:
        is_of_retry = exc is attempt.retry_error
        if is_of_retry and isinstance(exc.reason, _BROKER_ERRORS):
            # Not the task's wish: retry() could not publish. The message is still here.
            failure = exc.reason.with_traceback(None)
            return record_failure(request.task, Context(request.request_dict), failure, attempt)
        if exc.requeue:
            return Returned("rejected, to be requeued", attempt.backoff_seconds)
        try:
            # FAILURE and task_failure, as in a worker.
            info = tracing.exception_info(exc)
            call_until(attempt.ends_in_seconds, partial(request.on_failure, info, return_ok=True))
        except (Exception, InvocationEnds) as failure:
            _log_not_stored(request.humaninfo(), failure)
        return Parked("rejected", exc)


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
            attempt.outcome = outcome_of_failure(task, req, self.retval, attempt)
            if isinstance(attempt.outcome, Returned):
                # Celery logs a retry without its reason's traceback; nobody asked for this one.
                logger.warning(
                    "%s raised, and comes back in %d s",
                    _label(task, req), attempt.outcome.delay_seconds, exc_info=self.retval,
                )  # fmt: skip
                self.state = RETRY
                self.retval = Retry(exc=self.retval, when=attempt.outcome.delay_seconds)
                with retry_told():
                    return super().handle_error_state(task, req, eager=eager, call_errbacks=False)
        return super().handle_error_state(task, req, eager=eager, call_errbacks=call_errbacks)


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


def _cut_off(task: Task, context: dict[str, Any], exc: InvocationEnds, attempt: Attempt) -> Outcome:
    """Settle what was cut off outside of the body: whoever did not answer then is not asked again.

    So no state is stored.
    """
    if attempt.sent_on:
        return Deleted("failed, after it had sent its own retry")
    logger.error(
        "%s %s the invocation's time ran out: the result back end, a broker or a signal's "
        "receiver did not answer. Give its client a time-out of a few seconds.",
        _label(task, context),
        "has run, but in what follows it" if attempt.body_finished else "has not run:",
    )
    if not attempt.body_finished:
        return Returned("the invocation's time ran out before it", attempt.backoff_seconds)
    if attempt.result_error is exc and not context.get("chord"):
        return Deleted("succeeded, but its result could not be stored in time")
    return Parked(UNFINISHED, exc.as_failure(), has_run=True)


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
    attempt.started = True
    try:
        result = _limited(task, attempt, body)
        attempt.body_finished = True
    finally:
        attempt.body_ended = True
    return result


def _limited(task: Task, attempt: Attempt, body: Callable[[], Any]) -> Any:
    """Return ``body()``, the call of *task*, under the time limits of *attempt*."""
    limited = _Limited(task, attempt)
    if is_async(task):
        # Not around it all: on this thread they could only end the waiting for the coroutine.
        with run_by(limited):
            return body()
    result = limited.call(body)
    if type(result) not in UNFINISHED_RESULTS:
        return result
    with run_by(limited):
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
        limits = TimeLimits(self._attempt.soft_time_limit, self._attempt.hard_time_limit)
        result = limits.call(function)
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
        )  # fmt: skip


def _log_not_stored(label: str, exc: BaseException) -> None:
    logger.error("The state of %s could not be stored: %r", label, exc)


def _label(task: Task, req: Any) -> str:
    return f"{task.name}[{req.get('id')}]"
