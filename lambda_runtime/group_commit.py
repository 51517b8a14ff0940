"""Idempotency records of several threads, written together: 25 a request instead of one.

A thread hands in its write and waits for it, so that what is promised of a single write holds
here as well: a task begins when its claim is in the table, and the next one on its thread
when its completion is. A few threads at a time carry the writes of all::

    thread 1    |-- hand in, send [1] ---------|- the next group, [2 3 4], is thread 2's -|
    thread 2      |-- hand in, wait -----------|-- send [2 3 4] --|
    thread 3, 4     |-- hand in, wait ----------------------------|

So nobody waits for a group to fill, and the busier the table, the larger the groups.

DynamoDB carries out each of the statements by itself
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html).
A statement that is refused is left to its thread, which has the conditional write for it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any

from lambda_celery import aws

logger = logging.getLogger(__name__)

#: DynamoDB's limit.
_STATEMENTS_A_REQUEST = 25
#: More make the groups smaller, and with that cost CPU; fewer make them wait for each other.
_REQUESTS_AT_A_TIME = 2
#: What a store says that speaks DynamoDB's protocol, but not PartiQL.
_UNKNOWN_OPERATION = "UnknownOperationException"


class Written(Enum):
    """What became of a write."""

    YES = "yes"
    NO = "no"
    #: It was refused when the request was repeated, and may have been carried out before.
    PERHAPS = "perhaps"


class _Write:
    __slots__ = ("done", "error", "group", "key", "parameters", "result", "statement")

    def __init__(self, key: str, statement: str, parameters: Sequence[dict[str, str]]) -> None:
        self.key = key
        self.statement = statement
        self.parameters = parameters
        self.result = Written.NO
        self.error: Exception | None = None
        #: The writes that this one's thread is to send.
        self.group: list[_Write] = []
        self.done = threading.Lock()
        self.done.acquire()


class GroupCommit:
    """Carries out PartiQL statements, those of several threads by one request."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()
        self._sending = 0
        self._is_refused = False

    def write(self, key: str, statement: str, parameters: Sequence[dict[str, str]]) -> Written:
        """Carry out *statement*, which writes the item *key* alone.

        :param parameters: DynamoDB's attribute values for its question marks, in their order.
        :raises botocore.exceptions.ClientError: and its kin, if DynamoDB cannot be asked.
        """
        if self._is_refused:
            return Written.NO
        write = _Write(key, statement, parameters)
        with self._lock:
            self._waiting.append(write)
            if self._sending < _REQUESTS_AT_A_TIME:
                self._sending += 1
                self._hand_over()
        write.done.acquire()
        if write.group:
            self._send(write.group)
        if write.error is not None:
            raise write.error
        return write.result

    def _hand_over(self) -> None:
        """Give what waits to the first of it that is to send, and wake its thread."""
        group: dict[str, _Write] = {}
        left: list[_Write] = []
        while self._waiting and len(group) < _STATEMENTS_A_REQUEST:
            write = self._waiting.popleft()
            # Two copies of one message: DynamoDB takes an item once a request.
            if group.setdefault(write.key, write) is not write:
                left.append(write)
        self._waiting.extendleft(reversed(left))
        sender, *_ = group.values()
        sender.group = list(group.values())
        sender.done.release()

    def _send(self, group: list[_Write]) -> None:
        try:
            self._carry_out(group)
        except Exception as exc:  # noqa: BLE001 - each of the threads is to hear of it
            if aws.denied(exc) or aws.error_code(exc) == _UNKNOWN_OPERATION:
                self._refuse(exc)
            else:
                for write in group:
                    write.error = exc
        finally:
            with self._lock:
                if self._waiting:
                    self._hand_over()
                else:
                    self._sending -= 1
            for write in group:
                if not write.group:
                    write.done.release()

    def _carry_out(self, group: list[_Write]) -> None:
        answer = self._client.batch_execute_statement(
            Statements=[
                {"Statement": each.statement, "Parameters": each.parameters} for each in group
            ]
        )
        repeated = answer["ResponseMetadata"]["RetryAttempts"] > 0
        for write, response in zip(group, answer["Responses"], strict=True):
            if error := response.get("Error"):
                write.result = Written.PERHAPS if repeated else Written.NO
                if error.get("Code") == "AccessDenied":
                    self._refuse(error.get("Message"))
            else:
                write.result = Written.YES

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
