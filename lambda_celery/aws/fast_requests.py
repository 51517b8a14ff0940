"""AWS requests past most of botocore: the few operations that every task takes.

What botocore does around a request costs as much CPU as the request itself: it validates,
runs hooks and endpoint rules, writes its user agent anew and parses by the service's model.
Here a call is written in the JSON protocol of SQS and DynamoDB
(https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html), signed and sent by a few lines of
our own (:mod:`~lambda_celery.aws.signature`, :mod:`~lambda_celery.aws.connections`). That is tried
once: what is neither a plain success nor a refusal by condition goes again by botocore's own way,
which has the retries, the exceptions, and what is rare. Where somebody watches or changes
botocore's requests, or the way leads by a proxy, all of it is botocore's.
"""

from __future__ import annotations

import json
import random
import ssl
import time
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

import botocore.awsrequest
import botocore.client
import botocore.endpoint
import botocore.httpsession
from botocore import handlers
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.httpsession import get_cert_path

from lambda_celery.aws.answers import Answer, UnusualAnswerError
from lambda_celery.aws.bounded import seconds_left
from lambda_celery.aws.connections import Connections, Patience
from lambda_celery.aws.refusals import is_throttled
from lambda_celery.aws.signature import PORTS, Signer, host_of
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
#: Operations of which others make the requests, and may ask whether they are botocore's.
_ASKED_ELSEWHERE = ("BatchExecuteStatement",)
#: What those listen to who see or change a request: stubs for tests, such as moto's, say.
_HOOKED_EVENTS = (
    "provide-client-params", "before-parameter-build", "before-call", "request-created",
    "before-sign", "before-send", "after-call",
)  # fmt: skip
#: Handlers of botocore's, which have their part in what is written here, but for its stubs; and of
#: Powertools, which tells its name.
_OWN_MODULES = ("botocore.", "boto3.", "aws_lambda_powertools.")
_STUBS = "botocore.stub"
_CONTENT_TYPE = "application/x-amz-json-1.0"
_REFUSED_BY_CONDITION = "ConditionalCheckFailedException"
#: In a value, the quotation marks are escaped.
_BINARY = ('"B":', '"BS":', '"BinaryValue":', '"BinaryListValues":')
#: What making a request, sending it or reading its answer raises. Not every exception: a time limit
#: may be raised anywhere, and is not to be taken for one of these.
FAST_ERRORS = (BotoCoreError, ClientError, OSError, TypeError, UnusualAnswerError, ValueError)
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
        # Some record or replace what is sent.
        and is_plain(botocore.httpsession.URLLib3Session.send, botocore.httpsession)
        and _connection_classes() == _CONNECTION_CLASSES
    )


def _connection_classes() -> tuple[Any, ...]:
    return (
        botocore.awsrequest.AWSHTTPConnectionPool.ConnectionCls,
        botocore.awsrequest.AWSHTTPSConnectionPool.ConnectionCls,
    )


_CONNECTION_CLASSES = _connection_classes()


def fast_client(client: Any, credentials: Any, patience: Patience) -> FastClient | None:
    """Return *client*, a boto3 client, with its frequent operations called directly.

    ``None`` if it is of a service or a botocore that is not known here: each part of botocore
    that is used is looked up once, here. *credentials* are botocore's, of the client's session.
    """
    try:
        return FastClient(client, credentials, patience)
    except (AttributeError, KeyError, OSError, UnknownProtocolError):
        return None


class UnknownProtocolError(Exception):
    """The service does not speak the protocol that is written here."""


class FastClient:
    """A boto3 client, of which some operations are called directly."""

    def __init__(self, client: Any, credentials: Any, patience: Patience) -> None:
        """Stand in for *client*; *credentials* are botocore's, of its session.

        :raises UnknownProtocolError: the service speaks another protocol, or is reached in a way
            that is botocore's own.
        :raises AttributeError: this botocore has no longer what is used of it.
        :raises KeyError: nor its model of the service.
        """
        self._client = client
        self._credentials = credentials
        model = client.meta.service_model
        if model.metadata.get("jsonVersion") != "1.0":
            raise UnknownProtocolError(model.service_name)
        url = urlsplit(client.meta.endpoint_url)
        port = url.port or PORTS[url.scheme]
        host = host_of(client.meta.endpoint_url)
        self.read_seconds = patience.read_seconds
        self.connections = Connections(url.hostname or "", port, _tls(client), patience)
        self._signer = Signer(
            service=model.signing_name,
            region=client.meta.region_name,
            host=host,
            content_type=_CONTENT_TYPE,
        )
        agent = client.meta.config.user_agent
        self._head = (
            f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: {_CONTENT_TYPE}\r\n"
            f"User-Agent: {agent}\r\n"
        )
        self._add_recursion_header = handlers.add_recursion_detection_header
        self._target = model.metadata["targetPrefix"]
        self._emitter = client.meta.events._emitter
        service = model.service_id.hyphenize()
        self._events = {
            operation: tuple(f"{event}.{service}.{operation}" for event in _HOOKED_EVENTS)
            for operation in (*_OPERATIONS[model.service_name].values(), *_ASKED_ELSEWHERE)
        }
        #: Who listened to each event at the last look, and whether somebody else's is among them.
        self._looked_at: dict[str, tuple[Any, bool]] = {}
        self._are_listened_to(next(iter(self._events.values())))  # whether that can be asked
        for method, operation in _OPERATIONS[model.service_name].items():
            setattr(self, method, partial(self._call, method, operation))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def close(self) -> None:
        """End the connections; the next request has one of its own."""
        self.connections.close()
        self._client.close()

    def is_botocores(self, operation: str) -> bool:
        """Whether somebody watches, or changes, what botocore sends."""
        return is_watched() or self._are_listened_to(self._events[operation])

    def _are_listened_to(self, events: tuple[str, ...]) -> bool:
        known = self._emitter._lookup_cache  # forgotten whenever somebody begins to listen
        for event in events:
            if (found := known.get(event)) is None:
                found = known[event] = self._emitter._handlers.prefix_search(event)
            if not found:
                continue
            looked_at, is_foreign = self._looked_at.get(event, (None, False))
            if looked_at is not found:
                is_foreign = any(map(_is_foreign, found))
                self._looked_at[event] = found, is_foreign
            if is_foreign:
                return True
        return False

    def _call(self, method: str, operation: str, **parameters: Any) -> Any:
        by_botocore = getattr(self._client, method)
        if self.is_botocores(operation) or "ReturnValues" in parameters:
            return by_botocore(**parameters)
        try:
            request = self.request(operation, parameters)
        except FAST_ERRORS:  # binary, or no credentials: botocore can, or says why not
            return by_botocore(**parameters)
        may_have_arrived = True
        try:
            return self.read(operation, self.connections.exchange(request))
        except ClientError as exc:
            if exc.response["Error"]["Code"] == _REFUSED_BY_CONDITION:
                raise
            may_have_arrived = exc.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
            if may_have_arrived or is_throttled(exc):
                time.sleep(min(random.random() * _BACKOFF_SECONDS, max(seconds_left(), 0)))
        except (OSError, UnusualAnswerError, ValueError):
            pass  # the connection, or an answer that is none
        try:
            answer = by_botocore(**parameters)
        except ClientError as exc:
            _note_repeat(exc.response, may_have_arrived)
            raise
        _note_repeat(answer, may_have_arrived)
        return answer

    def request(self, operation: str, parameters: dict[str, Any]) -> bytes:
        """Return the bytes that ask for *operation*.

        :raises botocore.exceptions.NoCredentialsError: there is nobody to sign for.
        :raises ValueError: there are binary values in the parameters.
        """
        text = json.dumps(parameters)
        if any(name in text for name in _BINARY):
            raise ValueError("Binary values are base64 on the wire, whatever they are given as.")
        if self._credentials is None:
            raise NoCredentialsError
        body = text.encode()
        credentials = self._credentials.get_frozen_credentials()
        signed = self._signer.headers(f"{self._target}.{operation}", body, credentials)
        added: dict[str, str] = {}
        self._add_recursion_header({"headers": added})  # and X-Ray's trace with it
        more = "".join(f"{name}: {value}\r\n" for name, value in added.items())
        head = f"{self._head}{more}{signed}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def read(self, operation: str, answer: Answer) -> dict[str, Any]:
        """Return what *answer* says to *operation*.

        :raises botocore.exceptions.ClientError: it is no success.
        :raises ValueError: it is none that is known here.
        """
        text = answer.body.decode()
        metadata = {"HTTPStatusCode": answer.status, "RetryAttempts": 0}
        if answer.status != 200:
            raise self._refusal(operation, text, metadata)
        if any(name in text for name in _BINARY):
            raise ValueError("Binary values have to be decoded.")
        read: dict[str, Any] = json.loads(text)
        if not isinstance(read, dict):
            raise ValueError("The answer is no object.")
        read["ResponseMetadata"] = metadata
        return read

    def _refusal(self, operation: str, text: str, metadata: dict[str, Any]) -> ClientError:
        try:
            told = json.loads(text)
            code = str(told["__type"]).rpartition("#")[2]
        except (KeyError, TypeError, ValueError):
            told, code = {}, ""
        message = told.get("message") or told.get("Message") or text
        response: dict[str, Any] = {
            "Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata,
        }  # fmt: skip
        if code != _REFUSED_BY_CONDITION:
            return ClientError(response, operation)
        if "Item" in told and not any(name in text for name in _BINARY):
            response["Item"] = told["Item"]
        error: type[ClientError] = self._client.exceptions.from_code(code)
        return error(response, operation)


def _is_foreign(handler: Any) -> bool:
    module = getattr(handler, "__module__", None) or ""
    return not module.startswith(_OWN_MODULES) or module == _STUBS


def _tls(client: Any) -> ssl.SSLContext | None:
    """Return what verifies the other side, as botocore does; ``None`` for plain HTTP.

    :raises UnknownProtocolError: by a proxy, or without its certificate being verified.
    :raises OSError: the certificates cannot be read.
    """
    session, url = client._endpoint.http_session, client.meta.endpoint_url
    is_plain_way = not session._proxy_config.proxy_url_for(url) and session._cert_file is None
    if not is_plain_way or urlsplit(url).path not in {"", "/"}:
        raise UnknownProtocolError(url)
    if urlsplit(url).scheme == "http":
        return None
    if not session._verify:
        raise UnknownProtocolError(url)
    return tls_context(get_cert_path(session._verify))


@cache  # reading the certificates takes 20 ms
def tls_context(certificates: str) -> ssl.SSLContext:
    """Return this process's context that trusts the *certificates*, a file."""
    return ssl.create_default_context(cafile=certificates)


def _note_repeat(answer: dict[str, Any], may_have_arrived: bool) -> None:
    # Who has written something must know that it may have been written before.
    if may_have_arrived:
        metadata = answer.setdefault("ResponseMetadata", {})
        metadata["RetryAttempts"] = metadata.get("RetryAttempts", 0) + 1
