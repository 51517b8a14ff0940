"""What is printed of failed tasks, whoever has written what is in them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import click
import pytest

from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.cli.failed_output import age, document, print_counts, print_list, print_one
from lambda_celery.cli.failed_wait import End
from lambda_celery.exceptions import FailedTaskError
from lambda_celery.failures import Failure

NASTY = "[/red] :smile: \x1b[2J\u202e[link=x]"
SHOWN = "[/red] :smile: \\x1b[2J\\u202e[link=x]"
FAILURE = Failure(
    id="failure#1",
    task=NASTY,
    task_id=NASTY,
    queue="arn:aws:sqs:eu-west-1:123456789012:mail",
    dead_letter_queue="https://sqs.eu-west-1.amazonaws.com/123456789012/dead-letters",
    reason="failed",
    exception=NASTY,
    failed_at=datetime.now(UTC),
    attempts=3,
    size=100,
    message=NASTY,
    traceback=f"Traceback:\n\t{NASTY}",
    body="{}",
    attributes={"raw": {"DataType": "Binary", "BinaryValue": b"\x00"}},
)


def test_a_list(capsys):
    print_list(iter([FAILURE]))
    assert capsys.readouterr().out.count(SHOWN) == 3


def test_counts(capsys):
    print_counts(Counter({(NASTY, NASTY, "mail"): 2}))
    assert capsys.readouterr().out.count(SHOWN) == 2


def test_one(capsys):
    print_one(FAILURE)
    printed = capsys.readouterr().out
    assert f"\nTraceback:\n\t{SHOWN}\n" in printed
    assert "\x1b" not in printed


def test_a_document_is_json():
    read = json.loads(json.dumps(document(FAILURE)))
    assert read["task"] == NASTY
    assert read["attributes"] == {"raw": {"DataType": "Binary", "BinaryValue": "AA=="}}
    assert "kwargs" not in read


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-5), "0s"),
        (timedelta(minutes=61), "1h"),
        (timedelta(days=3, hours=5), "3d"),
    ],
)
def test_ages(ago, text):
    assert age(datetime.now(UTC) - ago) == text


def test_an_end_that_was_waited_for():
    assert str(End(NASTY, is_good=False)) == SHOWN


def test_an_error():
    with pytest.raises(click.ClickException) as raised, told_in_a_sentence():
        raise FailedTaskError(NASTY)
    assert raised.value.format_message() == SHOWN
