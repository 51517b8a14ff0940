"""What an outage does to a batch: each cell of the table in ``docs/reliability.md``.

The function is the real one, under AWS's runtime client, with a few seconds to answer in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import lambda_celery
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.records import record
from tests.chaos.outages import MODES, Outage, Proxy

HERE = Path(__file__).parents[2] / "chaos"
#: Long enough for a cold start on a slow machine, and for every call that may be repeated.
TIMEOUT_SECONDS = 6


@pytest.fixture
def proxy(aws_endpoint: str) -> Iterator[Proxy]:
    with Proxy(aws_endpoint).running() as proxy:
        yield proxy


@pytest.fixture
def app(stack: Any) -> Iterator[Celery]:
    app = Celery("outages")
    app.conf.update(
        lambda_tasks=["*"],
        lambda_queue_url=stack.settings.queue_url,
        lambda_endpoint_url=stack.settings.endpoint_url,
        lambda_region=stack.settings.region,
        lambda_payload_bucket=stack.settings.payload_bucket,
        lambda_payload_threshold_bytes=3000,
    )
    lambda_celery.install(app)
    yield app
    app.close()


@pytest.fixture
def function(stack: Any, proxy: Proxy, tmp_path: Path) -> Iterator[LocalFunction]:
    with LocalFunction(
        timeout_seconds=TIMEOUT_SECONDS,
        maximum_concurrency=1,
        environment={
            **stack.environment,
            "LAMBDA_CELERY_ENDPOINT_URL": proxy.url,
            "LAMBDA_CELERY_APP": "storm_app:app",
            "LAMBDA_CELERY_MAX_RECEIVE_COUNT": "5",
            "LAMBDA_CELERY_TIME_RESERVE_SECONDS": "1",
            "STORM_RECORD": str(tmp_path / "record"),
        },
        working_directory=HERE,
    ) as function:
        yield function


class Batch:
    """Messages that are handed to the function, and what becomes of them."""

    def __init__(self, app: Celery, stack: Any, function: LocalFunction, recorded: Path) -> None:
        self.app, self.stack, self.function = app, stack, function
        self.recorded = recorded

    def send(self, *kinds: str, seconds: float = 0.01, pad: int = 0) -> list[dict[str, Any]]:
        for number, kind in enumerate(kinds):
            # The function's tasks know no more arguments than these.
            self.app.send_task("storm.send", (number, kind + " " * pad, seconds))
        messages: list[dict[str, Any]] = []
        while len(messages) < len(kinds):
            messages += self.stack.sqs.receive_message(
                QueueUrl=self.stack.queue_url, MaxNumberOfMessages=10,
                MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"],
                WaitTimeSeconds=1,
            ).get("Messages", [])  # fmt: skip
        return messages

    def invoke(self, messages: list[dict[str, Any]]) -> Any:
        name = self.stack.queue_url.rpartition("/")[2]
        arn = f"arn:aws:sqs:eu-west-1:000000000000:{name}"
        return self.function.invoke({"Records": [record(each, arn) for each in messages]})

    @property
    def ends(self) -> list[int]:
        if not self.recorded.exists():
            return []
        lines = [line.split() for line in self.recorded.read_text().splitlines()]
        return sorted(int(number) for what, number, *_ in lines if what == "end")


@pytest.fixture
def batch(app: Celery, stack: Any, function: LocalFunction, tmp_path: Path) -> Batch:
    made = Batch(app, stack, function, tmp_path / "record")
    assert made.invoke(made.send("fine")).error is None  # a cold start, before the outage
    made.recorded.unlink()
    return made


@pytest.mark.parametrize("service", ["dynamodb", "sqs", "s3"])
class TestTheAnswerLeaves:
    @pytest.mark.parametrize("mode", MODES)
    def test_before_the_run_nothing_runs_twice(self, batch, proxy, service, mode):
        messages = batch.send(*["fine"] * 4, pad=5000 if service == "s3" else 0)
        proxy.outage = Outage(service, mode)

        result = batch.invoke(messages)

        assert result.error is None
        failed = {each["itemIdentifier"] for each in result.payload["batchItemFailures"]}
        # What has run is not among those that come back.
        assert len(failed) + len(batch.ends) == 4
        assert len(set(batch.ends)) == len(batch.ends)
        if service == "sqs":  # which running needs not
            assert batch.ends == [0, 1, 2, 3]

        proxy.outage = None
        again = batch.invoke([each for each in messages if each["MessageId"] in failed])
        if failed:
            assert again.error is None
        else:
            assert again.payload == {"batchItemFailures": []}
        if mode != "answer lost" or service != "dynamodb":  # whose claims are kept until they end
            assert batch.ends == [0, 1, 2, 3]

    @pytest.mark.parametrize("mode", ["stall", "500"])
    def test_while_it_runs_what_has_run_is_not_run_again(self, batch, proxy, service, mode):
        messages = batch.send(
            "fine", "fine", "fails", seconds=0.7, pad=5000 if service == "s3" else 0
        )
        timer = threading.Timer(1.0, lambda: setattr(proxy, "outage", Outage(service, mode)))
        timer.start()

        result = batch.invoke(messages)

        timer.join()
        proxy.outage = None
        assert result.error is None
        failed = {each["itemIdentifier"] for each in result.payload["batchItemFailures"]}
        batch.invoke([each for each in messages if each["MessageId"] in failed])
        assert len(set(batch.ends)) == len(batch.ends)
