"""Our lines are Powertools'."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import sys
import threading
from typing import Any

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_runtime import log
from lambda_runtime.log import Formatter, LineHandler

TEXT = st.text(max_size=20)
EXTRAS = st.dictionaries(
    st.sampled_from(["task_name", "retries", "message_age_seconds", "x", "service", "taskName"]),
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.lists(TEXT, max_size=2)
    | st.just(ValueError("an object")),
)  # fmt: skip
JSON_TEXTS = st.sampled_from(
    ["12", " 12", "-1", "true", "null", "NaN", "Infinity", '"text"', "[1]", '{"a": 1}', "{", ""]
)


#: With orjson, and as if it were not installed.
WAYS = pytest.mark.parametrize("dumps", [log._fast_dumps, None], ids=["orjson", "json"])


def record(message: Any, args: Any = (), extra: Any = None, error: Any = None) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "proj", "msg": message, "args": args, "levelname": "INFO", "levelno": 20,
            "funcName": "send", "lineno": 7, "exc_info": error, **(extra or {}),
        }
    )  # fmt: skip


@WAYS
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    message=TEXT | JSON_TEXTS | st.dictionaries(TEXT, TEXT) | st.integers() | st.none(),
    args=st.just(()) | st.tuples(TEXT),
    extra=EXTRAS,
    created=st.floats(0, 4e9),
    trace_id=st.none() | st.just("Root=1-2;Parent=3;Sampled=0"),
)
def test_a_record_is_written_as_powertools_writes_it(
    dumps, message, args, extra, created, trace_id
):
    if args:
        message = str(message).replace("%", "%%") + " %s"
    made = record(message, args, extra)
    made.created, made.msecs = created, (created - int(created)) * 1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_fast_dumps", dumps)
        patch.delenv("_X_AMZN_TRACE_ID", raising=False)
        if trace_id:
            patch.setenv("_X_AMZN_TRACE_ID", trace_id)
        ours, theirs = Formatter().format(made), LambdaPowertoolsFormatter().format(made)
    assert as_read(ours) == as_read(theirs)


#: The names that logging refuses as extra ones.
OF_RECORDS = {*vars(logging.makeLogRecord({})), "message", "asctime"}


@settings(max_examples=300, deadline=None)
@given(
    message=st.text(),
    extra=st.dictionaries(
        st.text().filter(lambda name: name not in OF_RECORDS), st.text() | st.integers()
    ),
)
def test_orjson_writes_what_json_writes(message, extra):
    pytest.importorskip("orjson")
    made = record("%s", (message,), extra)
    fast = Formatter().format(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_fast_dumps", None)
        assert fast == Formatter().format(made)


def test_the_trace_is_that_of_the_invocation(monkeypatch):
    formatter = Formatter()
    found = []
    for request_id, trace_id in (("1", "Root=1-a"), ("2", "Root=1-b;Sampled=0"), ("3", "")):
        monkeypatch.setenv("_X_AMZN_TRACE_ID", trace_id)
        line = formatter.format(record("sent", extra={"function_request_id": request_id}))
        found.append(json.loads(line).get("xray_trace_id"))
    assert found == ["1-a", "1-b", None]


def as_read(line: str) -> Any:
    # What is not a number is not equal to itself.
    return json.loads(line, parse_constant=str)


def test_an_exception_is_written_as_powertools_writes_it():
    try:
        raise ValueError("451")
    except ValueError:
        made = record("failed %s", ("here",), error=sys.exc_info())
    line = json.loads(Formatter().format(made))
    assert line == json.loads(LambdaPowertoolsFormatter().format(made))
    assert line["exception_name"] == "ValueError"


def test_keys_that_the_project_appends_are_in_every_line():
    formatter = Formatter()
    formatter.append_keys(service="mail")
    assert json.loads(formatter.format(record("sent")))["service"] == "mail"


def test_what_celery_adds_for_custom_handlers_is_left_out():
    made = record("Task %(name)s received", {"name": "send"}, {"data": {"args": "secret"}})
    assert "secret" not in Formatter().format(made)


class TestLines:
    """Each is written at once, in the order in which they and what is printed were made."""

    def write_all(self, stream, *, by_itself=False):
        handler = LineHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s"))
        if by_itself:
            handler.setStream(stream)
        for n, text in enumerate(["first", "half \ud83d", "x" * 10_000, "last"]):
            print("printed", n, file=stream)
            handler.handle(logging.makeLogRecord({"msg": text}))

    def expected(self):
        lines = ["first", "half \\ud83d", "x" * 10_000, "last"]
        return "".join(f"printed {n}\n{line}\n" for n, line in enumerate(lines))

    @pytest.mark.parametrize("by_itself", [False, True])
    def test_to_a_file(self, tmp_path, by_itself):
        path = tmp_path / "log"
        with path.open("w", errors="backslashreplace") as stream:
            self.write_all(stream, by_itself=by_itself)
        assert path.read_text() == self.expected()

    def test_to_a_pipe_whose_reader_is_slow(self):
        reads, writes = os.pipe()
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
        found = []

        def read():
            with open(reads) as stream:
                found.append(stream.read())

        reader = threading.Thread(target=read)
        with open(writes, "w", errors="backslashreplace") as stream:
            reader.start()
            self.write_all(stream)
        reader.join()
        assert found == [self.expected()]

    def test_to_what_is_no_file(self):
        stream = io.StringIO()
        LineHandler(stream).handle(logging.makeLogRecord({"msg": "a line"}))
        assert stream.getvalue() == "a line\n"

    def test_one_that_cannot_be_formatted_is_reported_and_no_more(self, capsys):
        handler = LineHandler(io.StringIO())
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        assert "Logging error" in capsys.readouterr().err
