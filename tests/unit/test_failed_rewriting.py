"""A message that is sent again with something changed is still as its sender wrote it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from celery import Celery
from kombu.compression import compress

from lambda_celery.conf import Settings
from lambda_celery.exceptions import FailedTaskError, UnreadableMessageError
from lambda_celery.failures.rewriting import Call

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.fixture
def app():
    return Celery("shop", set_as_current=False)


def message(
    *, outer: bool = True, inner: bool = True, compression: str | None = None, **headers: Any
) -> str:
    body = json.dumps([["ann"], {"copies": 1}, EMBED]).encode()
    if compression:
        body, compression = compress(body, compression)
    envelope = {
        "body": base64.b64encode(body).decode() if inner else body.decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "task": "send", "id": "1", "root_id": "1", "retries": 2, "expires": None,
            "argsrepr": "('ann',)", "kwargsrepr": "{'copies': 1}", "mine": "kept",
            **({"compression": compression} if compression else {}),
            **headers,
        },
        "properties": {
            "body_encoding": "base64" if inner else "utf-8",
            "correlation_id": "1",
            "delivery_info": {"exchange": "", "routing_key": "mail"},
        },
    }  # fmt: skip
    text = json.dumps(envelope)
    return base64.b64encode(text.encode()).decode() if outer else text


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize(
    ("inner", "compression"), [(True, None), (False, None), (True, "zlib"), (True, "bzip2")]
)
def test_arguments_are_changed_in_the_same_layers(app, outer, inner, compression):
    text = message(outer=outer, inner=inner, compression=compression)
    call = Call(app, Settings(), text)
    assert call.arguments() == (["ann"], {"copies": 1})
    call.set_arguments(["bob"], {})

    again = Call(app, Settings(), call.text())
    assert again.arguments() == (["bob"], {})
    assert call.text().startswith("{") is not outer
    assert again.headers == {
        **Call(app, Settings(), text).headers, "argsrepr": "('bob',)", "kwargsrepr": "{}"
    }  # fmt: skip


def test_what_hides_the_arguments_stays(app):
    call = Call(app, Settings(), message(argsrepr="<an address>"))
    call.set_arguments(["bob"], {"copies": 1})
    assert call.headers["argsrepr"] == "<an address>"

    call = Call(app, Settings(redact_arguments=True), message())
    call.set_arguments(["bob"], {"copies": 1})
    assert call.headers["argsrepr"] == "<redacted>"


def test_another_id_is_another_call(app):
    schedule = {"time": "2026-01-01T00:00:00Z", "expires_seconds": 60}
    call = Call(app, Settings(), message(lambda_publication="m", lambda_schedule=schedule))
    assert call.expired_at is not None
    call.set_id("2")

    assert (call.task_id, call.headers["root_id"], call.headers["retries"]) == ("2", "2", 0)
    assert call.headers["lambda_publication"] != "m"
    assert call.expired_at is None
    assert call.headers["mine"] == "kept"


def test_when_it_has_expired(app):
    assert Call(app, Settings(), message()).expired_at is None
    assert Call(app, Settings(), message(expires="2099-01-01T00:00:00")).expired_at is None
    assert Call(app, Settings(), message(expires="2026-01-01T00:00:00+02:00")).expired_at


def test_another_queue(app):
    call = Call(app, Settings(), message())
    assert call.queue == "mail"
    call.set_queue("slow")
    assert Call(app, Settings(), call.text()).queue == "slow"


def test_the_older_protocol_is_not_changed(app):
    envelope = json.loads(message(outer=False, inner=False))
    envelope["body"] = json.dumps({"task": "send", "id": "1", "args": [], "kwargs": {}})
    call = Call(app, Settings(), json.dumps(envelope))
    with pytest.raises(FailedTaskError, match="older protocol: retry it as it is"):
        call.arguments()


def test_what_is_not_accepted_is_not_decoded(app):
    app.conf.accept_content = ["yaml"]
    with pytest.raises(UnreadableMessageError, match="cannot be decoded"):
        Call(app, Settings(), message()).arguments()


def test_what_cannot_be_serialised(app):
    with pytest.raises(FailedTaskError, match="cannot be serialised"):
        Call(app, Settings(), message()).set_arguments([object()], {})
