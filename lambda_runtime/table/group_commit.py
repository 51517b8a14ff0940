"""Idempotency records of several tasks, written together: 25 a request instead of one.

Whoever has a write hands it in, and waits for it or goes on. One thread, the clerk, carries the
writes of all, and reads what has become of them when it has nothing to send::

    hand in  1   2 3 4     5  6 7     8
             |    |            |
    clerk    send [1]  send [2 3 4]   [1] is answered: send [5 6 7]   ...

So nobody waits for a group to fill, and the busier the table, the larger the groups. Where
requests take long, nobody waits for them either: after a moment another one is sent, however
many are under way.

DynamoDB carries out each of the statements by itself
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html).
A request is tried once. Whatever it did not write is left to who has handed it in, whose
conditional write has botocore's retries.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from lambda_celery import aws
from lambda_celery.aws.exchanges import Exchanges
from lambda_celery.aws.fast_requests import FastClient
from lambda_celery.aws.refusals import THROTTLED
from lambda_celery.table.schema import MAXIMUM_WRITES

logger = logging.getLogger(__name__)

_OPERATION = "BatchExecuteStatement"
#: More make the groups smaller, and with that cost CPU; fewer make them wait for each other.
_REQUESTS_AT_A_TIME = 2
#: For as many as that there have to be enough writes to fill them.
_FULL_REQUESTS_AT_A_TIME = 8
#: And for as many, one that has waited for long.
_MOST_REQUESTS_AT_A_TIME = 50
#: Several times what DynamoDB takes for a request.
_PATIENCE_SECONDS = 0.05
#: What a store says that speaks DynamoDB's protocol, but not PartiQL.
_UNKNOWN_OPERATION = "UnknownOperationException"
#: What is said of a statement that was not carried out, for certain.
_NOT_WRITTEN = THROTTLED | {
    "AccessDenied", "ConditionalCheckFailed", "DuplicateItem", "ItemCollectionSizeLimitExceeded",
    "ResourceNotFound", "TransactionConflict", "ValidationError",
}  # fmt: skip


class Written(Enum):
    """What became of a write."""

    YES = "yes"
    NO = "no"
    #: There was no answer, or one that leaves it open.
    PERHAPS = "perhaps"


class Result(NamedTuple):
    """What became of a write, and what stood in its way, where DynamoDB says so."""

    written: Written
    #: The item as it was then. DynamoDB promises it of a condition that fails, and not of an INSERT
    #: that meets an item: so it may always be missing.
    item: dict[str, Any] | None = None


class Statement(NamedTuple):
    """A PartiQL statement that writes the item *key* alone.

    :param parameters: DynamoDB's attribute values for its question marks, in their order.
    :param is_urgent: whether it goes before those that are not: a process that dies before it is
        written has more to repeat.
    :param wants_item: whether DynamoDB is asked for the item that stands in its way.
    """

    key: str
    text: str
    parameters: Sequence[dict[str, str]]
    is_urgent: bool = False
    wants_item: bool = False

    def request(self) -> dict[str, Any]:
        """Return what asks for it: an element of the request's statements."""
        request = {"Statement": self.text, "Parameters": self.parameters}
        if self.wants_item:
            request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return request


#: Told what became of a write.
Told = Callable[[Result], None]


class _Write:
    __slots__ = ("handed_in_at", "is_urgent", "key", "request", "told")

    def __init__(self, statement: Statement, told: Told) -> None:
        self.key = statement.key
        self.request = statement.request()
        self.is_urgent = statement.is_urgent
        self.told = told
        self.handed_in_at = time.monotonic()


class GroupCommit:
    """Carries out PartiQL statements, those of several tasks by one request."""

    def __init__(self, client: Any) -> None:
        """Write by BatchExecuteStatement of the DynamoDB *client*, boto3's or a fast one."""
        self._client = client
        self._lock = threading.Lock()
        self._urgent: deque[_Write] = deque()
        self._waiting: deque[_Write] = deque()
        self._both = (self._urgent, self._waiting)
        #: What is asked for, by the identity of each request's writes.
        self._under_way: dict[int, list[_Write]] = {}
        self._is_woken = False
        self._requests: _Requests | None = None
        self._clerk: threading.Thread | None = None
        #: Whether nobody needs to hand in anything more.
        self.is_refused = False

    def submit(self, statement: Statement, told: Told) -> None:
        """Have *statement* carried out. Raises nothing.

        :param told: called once with what has become of it, on the clerk's thread: it must not
            wait for anything.
        """
        if self.is_refused:
            told(Result(Written.NO))
            return
        self._hand_in(_Write(statement, told))

    def write(self, statement: Statement) -> Result:
        """Carry out *statement*, and return what has become of it: see :meth:`submit`."""
        if self.is_refused:
            return Result(Written.NO)
        results: list[Result] = []
        done = threading.Lock()
        done.acquire()

        def told(result: Result) -> None:
            results.append(result)
            done.release()

        write = _Write(statement, told)
        self._hand_in(write)
        try:
            done.acquire()
        except BaseException:  # a time limit's, or of a signal's handler
            with self._lock:
                for waiting in self._both:
                    if write in waiting:
                        waiting.remove(write)
            raise
        return results[0]

    def end(self) -> None:
        """End the clerk and its connections: the next write has others. None may be under way."""
        with self._lock:
            clerk, requests = self._clerk, self._requests
            self._clerk = self._requests = None
        if clerk is not None and requests is not None:
            requests.wake()
            clerk.join()
            requests.close()

    def _hand_in(self, write: _Write) -> None:
        try:
            self._put(write)
        except (OSError, RuntimeError) as exc:  # the system has no file or no thread left
            logger.debug("Idempotency records cannot be written together: %s", exc)
            write.told(Result(Written.NO))

    def _put(self, write: _Write) -> None:
        with self._lock:
            if self._clerk is None or not self._clerk.is_alive():  # no thread survives a fork
                self._start_clerk()
            (self._urgent if write.is_urgent else self._waiting).append(write)
            waiting = len(self._urgent) + len(self._waiting)
            # Else it looks by itself when a request is answered, or patience ends.
            may_be_sent = len(self._under_way) < _REQUESTS_AT_A_TIME or waiting >= MAXIMUM_WRITES
            if self._is_woken or not (waiting == 1 or may_be_sent):
                return
            self._is_woken = True
            assert self._requests is not None
            self._requests.wake()

    def _start_clerk(self) -> None:
        self._requests = requests = _Requests(self._client)
        self._under_way.clear()
        self._is_woken = False
        self._clerk = threading.Thread(
            target=self._serve, args=(requests,), name="lambda-celery-table", daemon=True
        )
        self._clerk.start()

    def _serve(self, requests: _Requests) -> None:
        try:
            while self._requests is requests:  # until end()
                with self._lock:
                    self._is_woken = False
                while group := self._next_group():
                    self._send(requests, group)
                requests.step(_PATIENCE_SECONDS if any(self._both) else None)
        except BaseException:  # or those who wait would wait for ever
            logger.exception("Idempotency records could not be written together")
            with self._lock:
                self._clerk = None  # who hands in the next one starts another
                under_way = [write for group in self._under_way.values() for write in group]
                unsent = [*self._urgent, *self._waiting]
                for each in (self._under_way, *self._both):
                    each.clear()
            _tell(under_way, [Result(Written.PERHAPS)] * len(under_way))
            _tell(unsent, [Result(Written.NO)] * len(unsent))

    def _next_group(self) -> list[_Write]:
        """Return what is to be sent now by one request, if anything is."""
        with self._lock:
            if not any(self._both):
                return []
            is_full = len(self._urgent) + len(self._waiting) >= MAXIMUM_WRITES
            since = min(each[0].handed_in_at for each in self._both if each)
            is_due = time.monotonic() - since >= _PATIENCE_SECONDS
            most = _FULL_REQUESTS_AT_A_TIME if is_full else _REQUESTS_AT_A_TIME
            if len(self._under_way) >= (_MOST_REQUESTS_AT_A_TIME if is_due else most):
                return []
            group: dict[str, _Write] = {}
            for waiting in self._both:
                left: list[_Write] = []
                while waiting and len(group) < MAXIMUM_WRITES:
                    write = waiting.popleft()
                    # Two copies of one message: DynamoDB takes an item once a request.
                    if group.setdefault(write.key, write) is not write:
                        left.append(write)
                waiting.extendleft(reversed(left))
            writes = list(group.values())
            self._under_way[id(writes)] = writes
            return writes

    def _send(self, requests: _Requests, group: list[_Write]) -> None:
        statements = [each.request for each in group]
        try:
            requests.start({"Statements": statements}, partial(self._answered, group))
        except Exception as exc:  # noqa: BLE001 - who has handed it in makes its own write
            self._answered(group, exc)

    def _answered(self, group: list[_Write], answer: dict[str, Any] | Exception) -> None:
        results = [Result(Written.PERHAPS)] * len(group)
        try:
            self._read(answer, results)
        except Exception as exc:  # noqa: BLE001 - who has handed it in hears why not
            logger.debug("Idempotency records could not be written together: %s", exc)
        with self._lock:
            if self._under_way.pop(id(group), None) is None:
                return  # they have been told
        _tell(group, results)

    def _read(self, answer: dict[str, Any] | Exception, results: list[Result]) -> None:
        """Put into *results* what *answer* says of each."""
        if isinstance(answer, Exception):
            if aws.denied(answer) or aws.error_code(answer) == _UNKNOWN_OPERATION:
                self._refuse(answer)
                results[:] = [Result(Written.NO)] * len(results)
            raise answer
        repeated = answer["ResponseMetadata"]["RetryAttempts"] > 0
        for n, (_, response) in enumerate(zip(results, answer["Responses"], strict=True)):
            if (error := response.get("Error")) is None:
                results[n] = Result(Written.YES)
                continue
            code = error.get("Code")
            is_certain = code in _NOT_WRITTEN and not repeated
            results[n] = Result(Written.NO if is_certain else Written.PERHAPS, error.get("Item"))
            if code == "AccessDenied":
                self._refuse(error.get("Message"))

    def _refuse(self, why: object) -> None:
        if not self.is_refused:
            self.is_refused = True
            logger.warning(
                "Idempotency records are written one by one, which is slower, because DynamoDB "
                "refuses several at a time: %s. Allow dynamodb:PartiQLInsert and "
                "dynamodb:PartiQLUpdate on the idempotency table in the IAM policy of this "
                "function's role.",
                why,
            )


def _tell(writes: Iterable[_Write], results: Iterable[Result]) -> None:
    for write, result in zip(writes, results, strict=True):
        try:
            write.told(result)
        except Exception:
            logger.exception("What follows the record %s has failed", write.key)


class _Requests:
    """Makes one attempt at each request, several at a time: on one selector, where that can be."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._exchanges = Exchanges(_MOST_REQUESTS_AT_A_TIME)
        self._threads: ThreadPoolExecutor | None = None
        self._answered: deque[Callable[[], None]] = deque()

    def start(
        self, parameters: dict[str, Any], done: Callable[[dict[str, Any] | Exception], None]
    ) -> None:
        """Ask; *done* is called, in :meth:`step`, with what comes of it.

        Raises what stands in the way of asking.
        """
        client = self._client
        if isinstance(client, FastClient) and not client.is_botocores(_OPERATION):
            self._exchanges.start(client, _OPERATION, parameters, done)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                _MOST_REQUESTS_AT_A_TIME, thread_name_prefix="lambda-celery-table-request"
            )
        self._threads.submit(self._ask, parameters, done)

    def step(self, seconds: float | None) -> None:
        """Read what has come; wait up to *seconds* for it, or until somebody wakes this."""
        self._exchanges.step(seconds)
        while self._answered:
            self._answered.popleft()()

    def wake(self) -> None:
        """Have :meth:`step` return, now or when it is called."""
        self._exchanges.wake()

    def close(self) -> None:
        """Give the connections back to the client, and end the threads."""
        self._exchanges.close()
        if self._threads is not None:
            self._threads.shutdown()

    def _ask(
        self, parameters: dict[str, Any], done: Callable[[dict[str, Any] | Exception], None]
    ) -> None:
        answer: dict[str, Any] | Exception
        try:
            answer = self._client.batch_execute_statement(**parameters)
        except Exception as exc:  # noqa: BLE001 - told to who has asked
            answer = exc
        self._answered.append(partial(done, answer))
        self.wake()
