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
from functools import partial
from typing import Any

import botocore.client
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError

from lambda_celery.monitoring import is_plain

#: Those whose answers need no more than JSON: no binary values, no modelled errors in them.
_OPERATIONS = {
    "sqs": {"send_message": "SendMessage", "send_message_batch": "SendMessageBatch"},
    "dynamodb": {
        "batch_execute_statement": "BatchExecuteStatement",
        "put_item": "PutItem",
        "update_item": "UpdateItem",
    },
}

_BINARY = ('"B":', '"BS":', '"BinaryValue":', '"BinaryListValues":')


def speed_up(client: Any, credentials: Any) -> Any:
    """Return *client*, a boto3 client, with its frequent operations made cheaper.

    :param credentials: botocore's, of the session that made the client.
    """
    operations = _OPERATIONS.get(client.meta.service_model.service_name, {})
    http = getattr(getattr(client, "_endpoint", None), "http_session", None)
    metadata = client.meta.service_model.metadata
    if not operations or http is None or metadata.get("jsonVersion") != "1.0":
        return client
    return DirectClient(client, credentials, http, operations)


class DirectClient:
    """A boto3 client, of which some operations are called directly."""

    def __init__(
        self, client: Any, credentials: Any, http: Any, operations: dict[str, str]
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._http = http
        self._url = f"{client.meta.endpoint_url.rstrip('/')}/"
        model = client.meta.service_model
        self._service = model.service_id.hyphenize()
        self._signing_name = model.signing_name
        self._headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "User-Agent": client.meta.config.user_agent,
        }
        self._target = model.metadata["targetPrefix"]
        for method, operation in operations.items():
            setattr(self, method, partial(self._call, method, operation))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _call(self, method: str, operation: str, **parameters: Any) -> Any:
        by_botocore = getattr(self._client, method)
        if _is_watched() or "ReturnValues" in parameters:
            return by_botocore(**parameters)
        try:
            request = self._signed(operation, parameters)
        except Exception:  # noqa: BLE001 - binary, or no credentials: botocore can, or says why not
            return by_botocore(**parameters)
        may_have_arrived = True
        try:
            # Where botocore's stubs for tests, such as moto's, give their answers.
            _, stubbed = self._client.meta.events.emit_until_response(
                f"before-send.{self._service}.{operation}", request=request
            )
            response = stubbed or self._http.send(request)
            if response.status_code == 200:
                answer = json.loads(response.content)
                answer["ResponseMetadata"] = {"HTTPStatusCode": 200, "RetryAttempts": 0}
                return answer
            may_have_arrived = response.status_code >= 500
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
        if any(name in body for name in _BINARY):  # in a value, the quotation marks are escaped
            raise ValueError("Binary values are base64 on the wire, whatever they are given as.")
        request = AWSRequest(
            "POST",
            self._url,
            headers={**self._headers, "X-Amz-Target": f"{self._target}.{operation}"},
            data=body.encode(),
        )
        SigV4Auth(
            self._credentials.get_frozen_credentials(),
            self._signing_name,
            self._client.meta.region_name,
        ).add_auth(request)
        return request.prepare()


def _is_watched() -> bool:
    """Whether tracing has been put around botocore's clients, which must not miss a call then."""
    if not is_plain(botocore.client.BaseClient.__init__, botocore.client):
        return True  # it listens to the events of each
    call = botocore.client.BaseClient._make_api_call
    if (context := getattr(botocore, "context", None)) and is_plain(call, context):
        call = call.__wrapped__  # botocore's own decorator, in its later versions
    return not is_plain(call, botocore.client)


def _note_repeat(answer: dict[str, Any], may_have_arrived: bool) -> None:
    # Who has written something must know that it may have been written before.
    if may_have_arrived:
        answer["ResponseMetadata"]["RetryAttempts"] += 1
