"""AWS requests past most of botocore: the few operations that every task takes.

What botocore does around a request costs as much CPU as the request itself: it validates,
runs hooks and endpoint rules, writes its user agent anew and parses by the service's model.
Here a call is written in the JSON protocol of SQS and DynamoDB
(https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html), signed by botocore's signer and
sent by the client's own HTTP session. That is tried once: whatever is not a plain success goes
again by botocore's own way, which has the retries, the exceptions, and what is rare.
"""

from __future__ import annotations

import json
import random
import time
from functools import partial
from typing import Any

import botocore.client
import botocore.endpoint
from botocore import handlers, xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from lambda_celery.aws.bounded import seconds_left
from lambda_celery.aws.refusals import is_throttled
from lambda_celery.traced import is_plain

_OPERATIONS = {
    "sqs": {
        "change_message_visibility_batch": "ChangeMessageVisibilityBatch",
        "send_message": "SendMessage",
        "send_message_batch": "SendMessageBatch",
    },
    "dynamodb": {
        "delete_item": "DeleteItem",
        "get_item": "GetItem",
        "put_item": "PutItem",
        "update_item": "UpdateItem",
    },
}
FAST_SERVICES = frozenset(_OPERATIONS)
#: In a value, the quotation marks are escaped.
_BINARY = ('"B":', '"BS":', '"BinaryValue":', '"BinaryListValues":')
#: As botocore waits before its second attempt, at random.
_BACKOFF_SECONDS = 1.0


def is_watched() -> bool:
    """Whether tracing has been put around botocore's clients, which must not miss a call then.

    So it is taken for where a later botocore has no longer what tracing is put around.
    """
    try:
        return _is_watched()
    except AttributeError:
        return True


def _is_watched() -> bool:
    call = botocore.client.BaseClient._make_api_call
    if (context := getattr(botocore, "context", None)) and is_plain(call, context):
        call = call.__wrapped__  # botocore's own decorator, in its later versions
    return not (
        is_plain(call, botocore.client)
        # Some listen to the events of each client that is made, or go deeper.
        and is_plain(botocore.client.BaseClient.__init__, botocore.client)
        and is_plain(botocore.client.ClientCreator._create_api_method, botocore.client)
        and is_plain(botocore.endpoint.Endpoint.make_request, botocore.endpoint)
    )


def fast_client(client: Any, credentials: Any) -> FastClient | None:
    """Return *client*, a boto3 client, with its frequent operations called directly.

    ``None`` if it is of a service or a botocore that is not known here: each part of botocore
    that is used is looked up once, here. *credentials* are botocore's, of the client's session.
    """
    try:
        return FastClient(client, credentials)
    except (AttributeError, KeyError, UnknownProtocolError):
        return None


class UnknownProtocolError(Exception):
    """The service does not speak the protocol that is written here."""


class FastClient:
    """A boto3 client, of which some operations are called directly."""

    def __init__(self, client: Any, credentials: Any) -> None:
        """Stand in for *client*; *credentials* are botocore's, of its session.

        :raises UnknownProtocolError: the service speaks another protocol.
        :raises AttributeError: this botocore has no longer what is used of it.
        :raises KeyError: nor its model of the service.
        """
        self._client = client
        self._credentials = credentials
        url = client.meta.endpoint_url
        self._url = url if url.count("/") > 2 else f"{url}/"  # a path is left as it is
        model = client.meta.service_model
        if model.metadata.get("jsonVersion") != "1.0":
            raise UnknownProtocolError(model.service_name)
        self._http = client._endpoint.http_session
        self._stub = client.meta.events.emit_until_response
        self._add_recursion_header = handlers.add_recursion_detection_header
        self._region_name = client.meta.region_name
        self._service = model.service_id.hyphenize()
        self._signing_name = model.signing_name
        self._headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "User-Agent": client.meta.config.user_agent,
        }
        self._target = model.metadata["targetPrefix"]
        for method, operation in _OPERATIONS[model.service_name].items():
            setattr(self, method, partial(self._call, method, operation))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def once(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one attempt at *operation*, which neither takes nor gives binary values.

        :raises botocore.exceptions.ClientError: AWS did not answer with success.
        :raises botocore.exceptions.BotoCoreError: it did not answer, or could not be asked.
        :raises ValueError: what it answered, or is to be asked, is not what is known here.
        """
        if is_watched():  # botocore's way, with its repeats
            return dict(getattr(self._client, xform_name(operation))(**parameters))
        return self._sent(operation, self._signed(operation, parameters))

    def _sent(self, operation: str, request: Any) -> dict[str, Any]:
        # Where stubs for tests, such as moto's, give their answers.
        _, stubbed = self._stub(f"before-send.{self._service}.{operation}", request=request)
        response = stubbed or self._http.send(request)
        text = response.content.decode()
        metadata = {"HTTPStatusCode": response.status_code, "RetryAttempts": 0}
        if response.status_code != 200:
            code = _error_code(text)
            error = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": metadata}
            raise ClientError(error, operation)
        if any(name in text for name in _BINARY):
            raise ValueError("Binary values have to be decoded.")
        answer: dict[str, Any] = json.loads(text)
        answer["ResponseMetadata"] = metadata
        return answer

    def _call(self, method: str, operation: str, **parameters: Any) -> Any:
        by_botocore = getattr(self._client, method)
        if is_watched() or "ReturnValues" in parameters:
            return by_botocore(**parameters)
        try:
            request = self._signed(operation, parameters)
        except Exception:  # noqa: BLE001 - binary, or no credentials: botocore can, or says why not
            return by_botocore(**parameters)
        may_have_arrived = True
        try:
            return self._sent(operation, request)
        except ClientError as exc:
            may_have_arrived = exc.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
            if may_have_arrived or is_throttled(exc):
                time.sleep(min(random.random() * _BACKOFF_SECONDS, max(seconds_left(), 0)))
        except (BotoCoreError, ValueError):
            pass  # the connection, or an answer that is none
        try:
            answer = by_botocore(**parameters)
        except ClientError as exc:
            _note_repeat(exc.response, may_have_arrived)
            raise
        _note_repeat(answer, may_have_arrived)
        return answer

    def _signed(self, operation: str, parameters: dict[str, Any]) -> Any:
        body = json.dumps(parameters)
        if any(name in body for name in _BINARY):
            raise ValueError("Binary values are base64 on the wire, whatever they are given as.")
        headers = {**self._headers, "X-Amz-Target": f"{self._target}.{operation}"}
        self._add_recursion_header({"headers": headers})  # and X-Ray's trace with it
        request = AWSRequest("POST", self._url, headers=headers, data=body.encode())
        if self._credentials is None:
            raise NoCredentialsError
        SigV4Auth(
            self._credentials.get_frozen_credentials(),
            self._signing_name,
            self._region_name,
        ).add_auth(request)
        return request.prepare()


def _error_code(text: str) -> str:
    try:
        return str(json.loads(text)["__type"]).rpartition("#")[2]
    except (KeyError, TypeError, ValueError):
        return ""


def _note_repeat(answer: dict[str, Any], may_have_arrived: bool) -> None:
    # Who has written something must know that it may have been written before.
    if may_have_arrived:
        metadata = answer.setdefault("ResponseMetadata", {})
        metadata["RetryAttempts"] = metadata.get("RetryAttempts", 0) + 1
