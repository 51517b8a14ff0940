"""The queue as a test sees it: what is on it, what becomes of it, and what goes wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from celery import Celery
from celery.app import app_or_default
from kombu.utils.json import dumps, loads

from lambda_celery import aws
from lambda_celery.celery_hooks.amqp import routing_of
from lambda_celery.celery_hooks.async_tasks import RunBy
from lambda_celery.celery_hooks.in_tests import process_given_back
from lambda_celery.conf import other_settings, setting_names
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.invoke.stand_in import standing_in
from lambda_celery.local.records import record
from lambda_celery.payloads import PayloadStore, is_pointer
from lambda_celery.publishing.publisher import publisher_of
from lambda_celery.publishing.routing import goes_to_sqs
from lambda_celery.testing.ageing import aged_body
from lambda_celery.testing.aws import REGION, InMemoryAWS
from lambda_celery.testing.clock import Clock
from lambda_celery.testing.direct_calls import DirectCalls
from lambda_celery.testing.environment import Environment, Run
from lambda_celery.testing.messages import Message, read, task_in
from lambda_celery.testing.options import settings_in_memory
from lambda_celery.testing.sqs import SQS, StoredMessage

#: As the infrastructure has it, where nothing else is set.
_MAX_RECEIVE_COUNT = 5
_TIMEOUT_SECONDS = 60
#: AWS's advice: six times the function's time-out.
_VISIBILITY_TIMEOUTS = 6
#: How many of the outcomes an assertion's message shows.
_SHOWN = 10
#: How late a message may be sent after its countdown was computed, on a slow machine.
_LATE_SECONDS = 5


_Raised: TypeAlias = BaseException | type[BaseException]


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery.

    :ivar message: what was delivered.
    :ivar number: which delivery of the test it was; the first is 1.
    :ivar fate: where the message is: ``"deleted"``, ``"returned"`` (it comes again),
        ``"forwarded"`` (sent on as a new message, to come later), ``"parked"`` (in the dead-letter
        queue), or ``"lost"`` (its process was killed: it comes again when it is no longer hidden).
    :ivar end: what became of the call: ``"succeeded"``, ``"failed"``, ``"retried"``,
        ``"ignored"``, ``"duplicate"`` (it has run before, and was not run), ``"expired"``,
        ``"revoked"``; ``None`` where nothing has.
    :ivar reason: why it has come back, or is parked.
    :ivar result: what the task's body has returned.
    :ivar exception: what it has raised: Celery's ``Retry``, too.
    :ivar has_run: whether the body was called.
    """

    message: Message
    number: int
    fate: str
    end: str | None
    reason: str
    result: Any
    exception: BaseException | None
    has_run: bool

    def __str__(self) -> str:
        """Return it in a line."""
        end = self.end or ("run" if self.has_run else "not run")
        told = f"{self.number}. {self.message}: {end}, {self.fate}"
        if self.reason:
            told += f" ({self.reason})"
        return told if self.exception is None else f"{told}; it raised {self.exception!r}"


class _Body:
    """What a task's body has done in one delivery, and what is done to it."""

    def __init__(self, raises: _Raised | None, then: Callable[[], None]) -> None:
        self._raises = raises
        self._then = then
        self.has_run = False
        self.result: Any = None
        self.exception: BaseException | None = None
        #: What is meant for the one who runs the tests, and not for who runs the task.
        self.end_of_test: BaseException | None = None

    def around(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is run in the place of *body*."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.has_run = True
            try:
                if self._raises is not None:
                    raise self._raises
                with RunBy(None):  # a coroutine's loop is this thread's own
                    self.result = body(*args, **kwargs)
            except BaseException as exc:
                self.exception = exc
                if self._raises is None and isinstance(exc, _ends_of_tests()):
                    self.end_of_test = exc
                raise
            finally:
                self._then()
            return self.result

        return run


class LambdaCeleryQueue:
    """The queues of an app, in memory, and the function behind them, in this process.

    Used as a context: within it, what the app publishes to SQS is here, and nothing asks AWS.

    :param app: the Celery app; the current one if none is given.
    :param max_receive_count: how often a message is handed out, where the settings do not say it.
    :param timeout_seconds: the function's time-out. A process that is killed leaves its message
        hidden for six times as long.
    :param settings: settings of Lambda Celery's by their names without a prefix, in the place of
        the app's; ``None`` is one that is not set.
    :raises ConfigurationError: one is no setting, or cannot be chosen here, or its value is none.
    """

    def __init__(
        self,
        app: Celery | None = None,
        *,
        max_receive_count: int = _MAX_RECEIVE_COUNT,
        timeout_seconds: int = _TIMEOUT_SECONDS,
        **settings: Any,
    ) -> None:
        self.app: Celery = app_or_default(app)
        self._timeout_seconds = timeout_seconds
        self.settings = settings_in_memory(self.app, settings)
        self._clock = Clock()
        self._sqs = SQS(
            self._clock,
            region=self.settings.aws_region or REGION,
            visibility_timeout_seconds=_VISIBILITY_TIMEOUTS * timeout_seconds,
            max_receive_count_of=lambda url: (
                self.settings.of_queue(url).max_receive_count or max_receive_count
            ),
            dead_letter_url_of=lambda url: self.settings.of_queue(url).dead_letter_queue_url,
        )
        self._aws = InMemoryAWS(self._clock, self._sqs)
        self._payloads = PayloadStore(self.settings)
        #: Bodies from the bucket, by their pointers: what comes twice is shown when they are gone.
        self._fetched: dict[str, str] = {}
        #: Those in which nothing runs.
        self._environments: list[Environment] = []
        self._direct = DirectCalls(self._clock, self.advance, self._call)
        self._delivering = threading.RLock()
        #: What became of each delivery so far.
        self.outcomes: list[Outcome] = []
        self._failing: dict[int, _Raised] = {}
        self._killed: set[int] = set()
        self._is_to_come_twice = False
        self._exit = ExitStack()

    def __enter__(self) -> LambdaCeleryQueue:
        with ExitStack() as stack:
            stack.enter_context(process_given_back(self.app))
            stack.enter_context(self._aws.standing_in())
            stack.enter_context(standing_in(self._direct))
            stack.enter_context(other_settings(self.app, self.settings))
            stack.enter_context(publisher_of(self.app).with_settings(self.settings))
            # Clients take a tenth of a second to make, once a process: not in a test's first call.
            for service in ("sqs", "dynamodb"):
                aws.client(service, self.settings)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    # What is there.

    @property
    def messages(self) -> list[Message]:
        """What is on the queues, as it was sent: due, delayed and hidden messages."""
        return [self._read(each) for each in self._sqs.waiting()]

    @property
    def dead_letters(self) -> list[Message]:
        """What is in the dead-letter queues."""
        return [self._read(each) for each in self._sqs.dead_letters()]

    def enqueued(self, task: Any) -> list[Message]:
        """Return those messages on the queues that are of *task*, a task or its name."""
        name = _name_of(task)
        return [each for each in self.messages if each.task == name]

    def assert_enqueued(
        self,
        task: Any,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        message_group_id: str | None = None,
        times: int | None = None,
    ) -> Message:
        """Assert that a call of *task* is on a queue; return the first message of it.

        What is not given is not compared.

        :param args: the positional arguments of the call, as it was written.
        :param kwargs: and those by keyword.
        :param queue: the name of the Celery queue.
        :param countdown: the seconds that it is to wait.
        :param eta: when it is due; a naive time is UTC, as for a worker.
        :param message_group_id: of SQS, ``MessageGroupId`` in the call.
        :param times: how many such messages there are; one or more if it is not given.
        :raises AssertionError: there is none; the message shows what is there.
        """
        wanted = {
            "args": None if args is None else _sent(list(args)),
            "kwargs": None if kwargs is None else _sent(dict(kwargs)),
            "queue": queue,
            "eta": eta.replace(tzinfo=UTC) if eta is not None and eta.tzinfo is None else eta,
            "message_group_id": message_group_id,
        }
        found = [
            each
            for each in self.enqueued(task)
            if all(w is None or getattr(each, name) == w for name, w in wanted.items())
            and (countdown is None or _is_countdown(each, countdown))
        ]
        if found and (times is None or len(found) == times):
            return found[0]
        if times == 0 and not found:
            raise ValueError("Call assert_not_enqueued() for a task that is not to be enqueued.")
        told = {name: w for name, w in {**wanted, "countdown": countdown}.items() if w is not None}
        asked = ", ".join(f"{name}={w!r}" for name, w in told.items())
        count = "" if times is None else f" {times} times, but {len(found)} times"
        raise AssertionError(
            f"{_name_of(task)} is not enqueued{count}{f' with {asked}' if asked else ''}. "
            f"{self._told()}{self._why_not(_name_of(task))}"
        )

    def assert_not_enqueued(self, task: Any = None) -> None:
        """Assert that no call of *task* is on a queue; no message at all, if none is given.

        :raises AssertionError: there is one; the message shows what is there.
        """
        found = self.messages if task is None else self.enqueued(task)
        if found:
            what = "Something" if task is None else _name_of(task)
            raise AssertionError(f"{what} is enqueued. {self._told()}")

    # What is done with it.

    def run(self, limit: int = 1000) -> list[Outcome]:
        """Run what is due, and what comes of it, until nothing is due; return the outcomes.

        :param limit: how many deliveries there may be.
        :raises LambdaCeleryError: there are more, as of a task that calls itself.
        """
        outcomes: list[Outcome] = []
        while (outcome := self._deliver()) is not None:
            outcomes.append(outcome)
            if len(outcomes) >= limit and self._sqs_has_due():
                raise LambdaCeleryError(
                    f"After {limit} deliveries there is still something due: a task that calls "
                    f"itself? Give run() a higher limit. {self._told()}"
                )
        if not outcomes:
            self._check_not_eager()
        return outcomes

    def run_once(self) -> Outcome:
        """Deliver the message that is due first; return what became of it.

        :raises LambdaCeleryError: none is due.
        """
        outcome = self._deliver()
        if outcome is None:
            self._check_not_eager()
            raise LambdaCeleryError(f"No message is due: call advance(). {self._told()}")
        return outcome

    def advance(self, seconds: float | None = None) -> float:
        """Let *seconds* pass, or as many as the next message waits; return how many.

        It is the queue's time: countdowns, back-offs, visibility time-outs, locks, ``expires``.
        What the process's own clock says is the same as before. The environment is a new one then.

        :raises LambdaCeleryError: no seconds are given, and no message waits.
        """
        if seconds is None:
            now = self._clock.now()
            waits = [each.visible_at - now for each in self._sqs.waiting() if each.visible_at > now]
            if not waits:
                raise LambdaCeleryError("No message waits: give advance() the seconds.")
            # A little more, for what was rounded to whole seconds on the way.
            seconds = min(waits) + 1
        self._aws.advance(seconds)
        self._environments = []
        return seconds

    def redrive(self) -> int:
        """Send what is in the dead-letter queues back to where it came from; return how many."""
        letters = self._sqs.dead_letters()
        for each in letters:
            self._sqs.redrive(each)
        return len(letters)

    # What goes wrong.

    def fail_delivery(self, number: int, exception: BaseException | type[BaseException]) -> None:
        """Have delivery *number* of the test raise *exception* in the place of its task's body.

        :param number: the first delivery is 1; ``len(queue.outcomes) + 1`` is the next one.
        :raises ValueError: that delivery has been.
        """
        self._check_is_ahead(number)
        self._failing[number] = exception

    def kill_delivery(self, number: int) -> None:
        """Have the process of delivery *number* die when its task's body is through.

        That is the worst moment: the work is done, and AWS is not told. The message is hidden for
        six times the function's time-out, and then comes again. (Of what only this process knows,
        signals are sent, and a result back end in memory has the result.)

        :param number: as for :meth:`fail_delivery`.
        :raises ValueError: that delivery has been.
        """
        self._check_is_ahead(number)
        self._killed.add(number)

    def deliver_twice(self) -> None:
        """Have SQS deliver the next message that is deleted once more, as it may do."""
        self._is_to_come_twice = True

    def _check_is_ahead(self, number: int) -> None:
        if number <= (delivered := len(self.outcomes)):
            raise ValueError(
                f"Delivery {number} has been, or is none: the first one is 1, and the next one is "
                f"{delivered + 1}. Say what is to go wrong before run()."
            )

    def _deliver(self) -> Outcome | None:
        with self._delivering:  # each thread of a test may run what is due
            return self._deliver_one()

    def _deliver_one(self) -> Outcome | None:
        stored = self._sqs.receive()
        if stored is None:
            return None
        number = len(self.outcomes) + 1
        message = replace(self._read(stored), waits_seconds=0.0)
        is_killed = number in self._killed
        body = _Body(self._failing.get(number), self._die if is_killed else _nothing)
        received = {**stored.as_received(), "Body": self._aged(stored)}
        event = {"Records": [record(received, stored.queue.arn)]}
        try:
            run = self._invoke(event, message.task, body)
        finally:
            self._aws.asks_nobody = False
        if is_killed and body.has_run:
            fate, end, reason = "lost", None, "its process was killed"
            self._environments = []
        else:
            fate, reason = run.note.fate.value, run.note.reason
            end = run.note.end.value if run.note.end is not None else None
            if not run.answer["batchItemFailures"]:
                self._delete(stored)
        outcome = Outcome(
            message, number, fate, end, reason, body.result, body.exception, body.has_run
        )
        self.outcomes.append(outcome)
        return outcome

    def _call(self, event: Mapping[str, Any]) -> Any:
        """Return what the function answers to the direct call that *event* is."""
        with self._delivering:
            task = task_in(self._fetched_body(event["message"]["body"]), self.app)
            return self._invoke(event, task, _Body(None, _nothing)).answer

    def _invoke(self, event: Mapping[str, Any], task: str, body: _Body) -> Run:
        free = self._environments  # others take its place when time passes meanwhile
        environment = free.pop() if free else Environment(self.app, self.settings)
        try:
            with self._direct.on_this_thread():
                run = environment.invoke(
                    event, seconds=self._timeout_seconds, task=task, around=body.around
                )
        finally:
            free.append(environment)
        if body.end_of_test is not None:
            raise body.end_of_test
        return run

    def _delete(self, stored: StoredMessage) -> None:
        if self._is_to_come_twice:
            self._is_to_come_twice = False
            self._sqs.show_again(stored)
        else:
            self._sqs.delete(stored)

    def _die(self) -> None:
        self._aws.asks_nobody = True

    def _aged(self, stored: StoredMessage) -> str:
        return aged_body(stored.body, self._clock.passed_seconds - stored.sent_after_seconds)

    def _read(self, stored: StoredMessage) -> Message:
        return read(stored, self._fetched_body(stored.body), self.app, self._clock.now())

    def _fetched_body(self, body: str) -> str:
        if not is_pointer(body):
            return body
        if body not in self._fetched:
            self._fetched[body] = self._payloads.fetch(body).text
        return self._fetched[body]

    def _sqs_has_due(self) -> bool:
        return any(each.visible_at <= self._clock.now() for each in self._sqs.waiting())

    def _check_not_eager(self) -> None:
        if self.app.conf.task_always_eager and not self.outcomes:
            raise LambdaCeleryError(_EAGER)

    def _told(self) -> str:
        """Return what there is, for a message."""
        return "\n".join(self._lines())

    def _why_not(self, name: str) -> str:
        """Return what an assertion says besides of a task whose messages go elsewhere."""
        if name not in self.app.tasks:
            return f"\nThere is no task {name} in the app {self.app.main!r}."
        if routing_of(self.app) is not None and goes_to_sqs(self.app, name):
            return ""
        return (
            f"\n{name} goes to the app's own broker, and not to Lambda: give it lambda_celery's "
            f"@task, or name it in {setting_names('tasks')}"
            f"{'' if routing_of(self.app) else ' and call lambda_celery.install()'}."
        )

    def _lines(self) -> Iterator[str]:
        waiting, dead = self.messages, self.dead_letters
        yield "On the queues:" if waiting else "Nothing is on the queues."
        yield from (f"  {each}" for each in waiting)
        if dead:
            yield "In the dead-letter queues:"
            yield from (f"  {each}" for each in dead)
        if self.outcomes:
            yield "Delivered, the last of them:"
            yield from (f"  {each}" for each in self.outcomes[-_SHOWN:])
        if self.app.conf.task_always_eager:
            yield _EAGER


_EAGER = (
    "task_always_eager is on, so a call is run at once, and nothing is enqueued: switch it off "
    "for this test, in Django by override_settings(CELERY_TASK_ALWAYS_EAGER=False)."
)


def _name_of(task: Any) -> str:
    return task if isinstance(task, str) else str(task.name)


def _sent(arguments: Any) -> Any:
    """Return *arguments* as they arrive."""
    try:
        return loads(dumps(arguments))
    except (TypeError, ValueError):  # of another serialiser than JSON
        return arguments


def _is_countdown(message: Message, seconds: float) -> bool:
    return message.countdown is not None and 0 <= seconds - message.countdown < _LATE_SECONDS


def _ends_of_tests() -> tuple[type[BaseException], ...]:
    """Return what a task must not keep: Ctrl-C, ``pytest.fail()`` in a double, a test's time-out.

    The handler takes them for the task's own failure.
    """
    found: list[type[BaseException]] = [KeyboardInterrupt]
    if (pytest := sys.modules.get("pytest")) is not None:
        found += [pytest.fail.Exception, pytest.skip.Exception, pytest.exit.Exception]
    return tuple(found)


def _nothing() -> None:
    """Do nothing after a body."""
