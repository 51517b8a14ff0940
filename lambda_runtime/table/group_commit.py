"""Idempotency records of several threads, written together: 25 a request instead of one.

A thread hands in its write and waits for it, so that what is promised of a single write holds
here as well: a task begins when its claim is in the table, and the next one on its thread
when its completion is. A few threads at a time carry the writes of all::

    thread 1    |-- hand in, send [1] ---------|- the next group, [2 3 4], is thread 2's -|
    thread 2      |-- hand in, wait -----------|-- send [2 3 4] --|
    thread 3, 4     |-- hand in, wait ----------------------------|

So nobody waits for a group to fill, and the busier the table, the larger the groups. Where
requests take long, nobody waits for them either: after a moment a thread sends what waits,
however many requests are under way.

DynamoDB carries out each of the statements by itself
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html).
A request is tried once. Whatever it did not write is left to its thread, whose conditional
write has botocore's retries.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from lambda_celery import aws
from lambda_celery.aws.refusals import THROTTLED
from lambda_celery.table.schema import MAXIMUM_WRITES

logger = logging.getLogger(__name__)

#: More make the groups smaller, and with that cost CPU; fewer make them wait for each other.
_REQUESTS_AT_A_TIME = 2
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


class _Write:
    __slots__ = ("done", "group", "key", "parameters", "result", "statement")

    def __init__(self, key: str, statement: str, parameters: Sequence[dict[str, str]]) -> None:
        self.key = key
        self.statement = statement
        self.parameters = parameters
        self.result = Written.PERHAPS
        #: The writes that this one's thread is to send.
        self.group: list[_Write] = []
        self.done = threading.Lock()
        self.done.acquire()


class GroupCommit:
    """Carries out PartiQL statements, those of several threads by one request."""

    def __init__(self, send: Callable[..., dict[str, Any]]) -> None:
        """Write by *send*, which makes one attempt at BatchExecuteStatement."""
        self._batch_execute_statement = send
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()
        self._sending = 0
        self._is_refused = False

    def write(self, key: str, statement: str, parameters: Sequence[dict[str, str]]) -> Written:
        """Carry out *statement*, which writes the item *key* alone. Raises nothing.

        :param parameters: DynamoDB's attribute values for its question marks, in their order.
        """
        if self._is_refused:
            return Written.NO
        write = _Write(key, statement, parameters)
        with self._lock:
            self._waiting.append(write)
            if self._sending < _REQUESTS_AT_A_TIME:
                self._sending += 1
                self._hand_over()
        try:
            if not write.done.acquire(timeout=_PATIENCE_SECONDS):
                self._lose_patience(write)
                write.done.acquire()
            if write.group:
                self._send(write)
        except BaseException:  # of a signal's handler, on the main thread
            self._withdraw(write)
            raise
        return write.result

    def _hand_over(self, first: _Write | None = None) -> None:
        """Give what waits, or what does beside *first*, to one that is to send it."""
        group: dict[str, _Write] = {}
        left: list[_Write] = []
        if first is not None:
            self._waiting.remove(first)
            group[first.key] = first
        while self._waiting and len(group) < MAXIMUM_WRITES:
            write = self._waiting.popleft()
            # Two copies of one message: DynamoDB takes an item once a request.
            if group.setdefault(write.key, write) is not write:
                left.append(write)
        self._waiting.extendleft(reversed(left))
        sender, *_ = group.values()
        sender.group = list(group.values())
        sender.done.release()

    def _lose_patience(self, write: _Write) -> None:
        with self._lock:
            if write in self._waiting:
                self._sending += 1
                self._hand_over(write)

    def _withdraw(self, write: _Write) -> None:
        with self._lock:
            if write in self._waiting:
                self._waiting.remove(write)
                return
        if write.group:  # others wait for it
            self._send(write)

    def _send(self, sender: _Write) -> None:
        try:
            self._carry_out(sender.group)
        except Exception as exc:  # noqa: BLE001 - each thread makes its own write, and hears why not
            if aws.denied(exc) or aws.error_code(exc) == _UNKNOWN_OPERATION:
                self._refuse(exc)
                for write in sender.group:
                    write.result = Written.NO
            logger.debug("Idempotency records could not be written together: %s", exc)
        finally:
            with self._lock:
                # More than the usual number are the answer to one that takes long.
                if self._waiting and self._sending <= _REQUESTS_AT_A_TIME:
                    self._hand_over()
                else:
                    self._sending -= 1
            for write in sender.group:
                if write is not sender:
                    write.done.release()
            sender.group = []

    def _carry_out(self, group: list[_Write]) -> None:
        answer = self._batch_execute_statement(
            Statements=[
                {"Statement": each.statement, "Parameters": each.parameters} for each in group
            ]
        )
        repeated = answer["ResponseMetadata"]["RetryAttempts"] > 0
        for write, response in zip(group, answer["Responses"], strict=True):
            code = response.get("Error", {}).get("Code")
            if "Error" not in response:
                write.result = Written.YES
            elif code in _NOT_WRITTEN and not repeated:
                write.result = Written.NO
            if code == "AccessDenied":
                self._refuse(response["Error"].get("Message"))

    def _refuse(self, why: object) -> None:
        if not self._is_refused:
            self._is_refused = True
            logger.warning(
                "Idempotency records are written one by one, which is slower, because DynamoDB "
                "refuses several at a time: %s. Allow dynamodb:PartiQLInsert and "
                "dynamodb:PartiQLUpdate on the idempotency table in the IAM policy of this "
                "function's role.",
                why,
            )
