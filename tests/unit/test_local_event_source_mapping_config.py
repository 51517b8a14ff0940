"""What AWS refuses of an event source mapping is refused here, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.local.event_source_mapping import EventSourceMappingConfig
from lambda_celery.local.provision import default_dead_letter_queue_name, queue_name

STANDARD = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
FIFO = f"{STANDARD}.fifo"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 1, "maximum_concurrency": 1},
        {"batch_size": 10, "maximum_batching_window_seconds": 300},
        {"batch_size": 10_000, "maximum_batching_window_seconds": 1},
        {"maximum_concurrency": 1000},
    ],
)
def test_what_aws_takes(options: dict[str, Any]) -> None:
    EventSourceMappingConfig(**options).check_queue(STANDARD)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "takes 1 to 10000"),
        ({"batch_size": 10_001, "maximum_batching_window_seconds": 1}, "takes 1 to 10000"),
        ({"batch_size": 11}, "needs a batch window of 1 s or more"),
        ({"maximum_batching_window_seconds": -1}, "takes 0 to 300"),
        ({"maximum_batching_window_seconds": 301}, "takes 0 to 300"),
        ({"maximum_concurrency": 0}, "takes 2 to 1000"),
        ({"maximum_concurrency": 1001}, "takes 2 to 1000"),
    ],
)
def test_what_aws_refuses(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        EventSourceMappingConfig(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 11, "maximum_batching_window_seconds": 1}, "set 10 or less"),
        ({"maximum_batching_window_seconds": 1}, "it takes no window"),
    ],
)
def test_what_aws_refuses_of_a_fifo_queue(options: dict[str, Any], sentence: str) -> None:
    config = EventSourceMappingConfig(**options)
    config.check_queue(STANDARD)

    with pytest.raises(ConfigurationError, match=sentence):
        config.check_queue(FIFO)


def test_queue_names() -> None:
    assert queue_name(STANDARD) == "mail"
    assert queue_name("http://127.0.0.1:4566/000000000000/mail.fifo") == "mail.fifo"
    assert queue_name("mail") == "mail"
    assert default_dead_letter_queue_name("mail") == "mail-dead-letters"
    assert default_dead_letter_queue_name("mail.fifo") == "mail-dead-letters.fifo"
