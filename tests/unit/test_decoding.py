"""JSON is decoded as kombu does it, whichever way is taken."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kombu import serialization
from kombu.exceptions import ContentDisallowed
from kombu.message import Message
from kombu.utils.json import dumps
from kombu.utils.json import loads as kombus_loads

from lambda_celery import decoding
from lambda_celery.decoding import decode_json, decode_payload

#: With orjson, and as if it were not installed.
WAYS = pytest.mark.parametrize("loads", [decoding._fast_loads, None], ids=["orjson", "json"])

KEYS = st.text(max_size=8) | st.sampled_from(["__type__", "__value__"])
TYPED = (
    st.datetimes() | st.dates() | st.times() | st.uuids() | st.binary(max_size=8)
    | st.decimals(allow_nan=False)
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    PLAIN | TYPED,
    lambda of: st.lists(of, max_size=4) | st.dictionaries(KEYS, of, max_size=4),
    max_leaves=20,
)
#: What json reads and the standard does not know, what overflows, and what is none.
TEXTS = st.text(alphabet='{}[]":,\\u0045ef_type-+.eE1239NaIity \n', max_size=30)


@pytest.fixture(autouse=True)
def way(request, monkeypatch):
    if "loads" in request.fixturenames:
        monkeypatch.setattr(decoding, "_fast_loads", request.getfixturevalue("loads"))


def outcome(decode: Any, text: str) -> Any:
    """Return what *decode* makes of *text*, told apart by type too, or what it raises."""
    try:
        # What is not a number is not equal to itself, and 1 is equal to 1.0 and True.
        return repr(decode(text))
    except Exception as exc:
        return type(exc), str(exc)


@WAYS
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=VALUES, ascii_only=st.booleans())
def test_what_kombu_has_written_is_read_as_by_kombu(loads, value, ascii_only):
    text = dumps(value, ensure_ascii=ascii_only)
    assert outcome(decode_json, text) == outcome(kombus_loads, text)


@WAYS
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
@example('{"\\u005f_type__": "datetime", "__value__": "2026-01-02T03:04:05"}')
@example('{"__t\\u0079pe__": "uuid", "__value__": {"hex": "00000000000000000000000000000001"}}')
@example('{"__type__": "nobody knows", "__value__": 1}')
@example("18446744073709551615")
@example("18446744073709551616")
@example("-9223372036854775808")
@example("-9223372036854775809")
@example("[1e400, -1e400, 1E5, -0, -0.0, 0.1, 1e-400, 5e-324]")
@example("[NaN, Infinity, -Infinity]")
@example('"\\ud800"')
@example('"\ud800"')
@example('{"a": 1, "b": 2, "a": 3}')
@example('"\ufeff"')
@example("\ufeff1")
@example("1" * 5000)
@example("[" * 100_000)
@example("")
def test_any_text_is_read_as_by_kombu(loads, text):
    assert outcome(decode_json, text) == outcome(kombus_loads, text)


def message(body: bytes, content_type: Any = "application/json", accept: Any = None) -> Message:
    return Message(
        body=body, content_type=content_type, content_encoding="utf-8",
        accept=accept or frozenset({"application/json"}),
    )  # fmt: skip


@WAYS
@pytest.mark.parametrize(
    "made",
    [
        message(b'[["\xc3\xa9"], {"n": 1}, {}]'),
        message(dumps([[datetime.date(2026, 1, 2)], {}, {}]).encode()),
        message(b""),
        message(b"text", "text/plain", frozenset({"text/plain"})),
        message(b"data", None),
    ],
)
def test_a_payload_is_kombus(loads, made):
    assert decode_payload(made) == made.payload


@WAYS
def test_a_payload_that_is_not_accepted_is_refused_as_by_kombu(loads):
    with pytest.raises(ContentDisallowed):
        decode_payload(message(b"[]", accept=frozenset({"application/x-yaml"})))


@WAYS
def test_a_decoder_that_the_project_has_registered_decodes(loads):
    before = serialization.registry._decoders["application/json"]
    serialization.register("json", json.dumps, lambda text: "mine", "application/json", "utf-8")
    try:
        assert decode_payload(message(b"[]")) == "mine"
    finally:
        serialization.register("json", dumps, before, "application/json", "utf-8")
