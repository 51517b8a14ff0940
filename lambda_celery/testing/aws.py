"""AWS in memory: what answers the requests of this project's clients.

A boto3 session tells of each request before it is sent, and takes an answer for it: so does
botocore's own Stubber. Requests are checked as ever, and refusals are botocore's exceptions. The
fast request path (:mod:`lambda_celery.aws.fast_requests`) is not taken then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore import xform_name
from botocore.awsrequest import AWSResponse

from lambda_celery import aws
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.testing.clock import Clock
from lambda_celery.testing.dynamodb import DynamoDB
from lambda_celery.testing.refusal import RefusedError
from lambda_celery.testing.s3 import S3, StoredObject
from lambda_celery.testing.sqs import SQS

REGION = "us-east-1"
#: Under this key of a request's context are its parameters.
_PARAMETERS = "lambda_celery_parameters"


class InMemoryAWS:
    """SQS, DynamoDB and S3, for the threads of this process."""

    def __init__(self, clock: Clock, sqs: SQS) -> None:
        self.clock = clock
        self.sqs = sqs
        self.dynamodb = DynamoDB()
        self.s3 = S3(clock, _objects)
        #: Whether the process that asks is taken for dead: what it writes is lost.
        self.asks_nobody = False
        self._lock = threading.RLock()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.clock.passed_seconds += seconds
            self.dynamodb.age(seconds)
            self.s3.age(seconds)

    def answer(self, service: str, operation: str, parameters: Mapping[str, Any]) -> Any:
        """Carry out *operation*; return the answer.

        :raises RefusedError: AWS would not take it.
        :raises LambdaCeleryError: it is none that is known here.
        """
        services: dict[str, SQS | DynamoDB | S3] = {
            "sqs": self.sqs,
            "dynamodb": self.dynamodb,
            "s3": self.s3,
        }
        asked = services.get(service)
        method = getattr(asked, xform_name(operation), None)
        if asked is None or method is None:
            raise LambdaCeleryError(
                f"In this test AWS is in memory, and {service}:{operation} is not there: have "
                "the test not call it, or use `celery -A proj lambda local` for it."
            )
        with self._lock:
            if self.asks_nobody and operation not in asked.READS:
                return {"Attributes": {}} if operation == "UpdateItem" else {}
            return method(**parameters)

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """Answer this project's clients within the context."""
        global _current
        before, _current = _current, self
        try:
            with aws.using_session(_session()):
                yield
        finally:
            _current = before


_current: InMemoryAWS | None = None
#: Of all tests: who has stored an attachment of a mail knows for an hour that it is there.
_objects: dict[tuple[str, str], StoredObject] = {}


@cache
def _session() -> Any:
    """Return the session whose requests are answered here: one a process, for its clients cost."""
    session = boto3.session.Session(
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # noqa: S106
        region_name=REGION,
    )
    session.events.register("before-parameter-build", _note_parameters)
    session.events.register_first("before-call", _answer)
    return session


def _note_parameters(params: Any, context: dict[str, Any], **_: Any) -> None:
    context[_PARAMETERS] = params


def _answer(model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
    if _current is None:
        raise LambdaCeleryError(
            "A client of the queue that tests have was used when its test had ended: make it anew."
        )
    service = model.service_model.service_name
    status = 200
    try:
        answer = _current.answer(service, model.name, context[_PARAMETERS])
    except RefusedError as exc:
        answer, status = exc.answer, 400
    metadata = {"HTTPStatusCode": status, "RetryAttempts": 0}
    return AWSResponse("", status, {}, None), {**answer, "ResponseMetadata": metadata}
