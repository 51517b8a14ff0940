"""What stands in for AWS in the tests of projects answers as the emulated AWS does."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from lambda_celery import aws
from lambda_celery.exceptions import PayloadMissingError
from lambda_celery.failures.store import Failures
from lambda_celery.payloads import PayloadStore
from lambda_celery.results import DynamoDBBackend
from lambda_celery.table.rate_limits import RateLimiter
from lambda_celery.table.revocations import Revocations, revoke
from lambda_celery.testing import LambdaCeleryQueue
from lambda_runtime.table.claims import Ending, IdempotencyTable


def claims(settings: Any) -> list[Any]:
    """Go through the life of a record: claimed, found, taken over, completed, forgotten."""
    table = IdempotencyTable(settings)
    now = time.time()
    life = {"life_seconds": 3600}

    def claim(key: str, ends: float = 60, message: str = "m", **options: Any) -> Any:
        found = table.claim(key, run_ends=now + ends, lineage=(message,), **life, **options)
        return found.claim, found.number, found.after_lost, found.is_foreign

    seen = [claim("a"), claim("a"), claim("a", message="other")]
    seen += [claim("lost", ends=-10), claim("lost", spare_lost=True), claim("lost")]
    won = table.claim("free", run_ends=now + 60, lineage=("m",), **life)
    table.release("free", won)
    seen += [table.look_up("free"), claim("free"), claim("free", message="other")]
    table.complete("a", life_seconds=3600, ending=Ending.UNFINISHED)
    seen += [claim("a"), table.is_completed("a")]
    table.complete("a", life_seconds=3600)
    table.complete("a", life_seconds=3600, ending=Ending.UNFINISHED)
    seen += [claim("a"), table.is_completed("a"), table.forget("a"), table.forget("a")]
    dropped = table.claim("dropped", run_ends=now + 60, lineage=("m",), **life)
    table.drop("dropped", dropped)
    table.complete("expired", life_seconds=-10)
    return [*seen, table.look_up("dropped"), table.look_up("expired"), claim("expired")]


def answers(settings: Any) -> list[Any]:
    """Keep what a direct call was answered, and look for it."""
    table = IdempotencyTable(settings)

    def claim(key: str) -> Any:
        ends = time.time() + 60
        found = table.claim(key, run_ends=ends, lineage=("m",), life_seconds=3600)
        return found.claim, found.answer

    seen = [claim("a")]
    table.complete("a", life_seconds=3600, answer='{"state": "SUCCESS"}')
    table.complete("unclaimed", life_seconds=3600, answer="hüllo")
    return [*seen, claim("a"), claim("unclaimed"), table.is_completed("a")]


def rates(settings: Any) -> list[Any]:
    """Take turns of a task, at a time that stands still."""
    limiters = [RateLimiter(settings, clock=lambda: 1_000_000.0) for _ in range(2)]
    return [limiters[n % 2].turn("task", 0.5, 3.0) for n in range(6)]


def revocations(settings: Any) -> list[Any]:
    """Revoke something, and ask."""
    before = Revocations(settings).include(["revoked#a"])
    revoke(settings, ["revoked#a", "revoked#b"])
    return [before, *(Revocations(settings).include([f"revoked#{n}"]) for n in "abc")]


def bodies(settings: Any) -> list[Any]:
    """Store a body, and look for it."""
    store = PayloadStore(settings)
    pointer, attributes = store.store("hüllo", {"x": {"DataType": "String", "StringValue": "y"}})
    text = store.fetch(pointer).text
    store.delete(pointer)
    store.delete(pointer)
    with pytest.raises(PayloadMissingError):
        store.fetch(pointer)
    return [text, attributes]


def results(settings: Any) -> list[Any]:
    """Keep results, and count the parts of a chord."""
    app = Celery("results", set_as_current=False, broker="memory://")
    app.conf.update(lambda_endpoint_url=settings.endpoint_url, lambda_region=settings.region)
    backend = DynamoDBBackend(
        app=app, url=f"lambda-dynamodb://{settings.region}/{settings.idempotency_table}"
    )
    backend.set(b"a", b"\x00text")
    backend.set(b"b", "b")
    seen = [backend.get(b"a"), backend.get(b"none"), backend.mget([b"b", b"none", b"a"])]
    backend.delete(b"a")
    backend.set_chord_size("g", 2)
    key = backend.get_key_for_chord("g")
    first, second = b"1", b"2"
    seen += [_parts(backend._update_chord(key, {}, part=each)) for each in (first, first, second)]
    backend._update_chord(key, {"claimed_by": {"B": first}}, part=first)
    try:
        backend._update_chord(key, {"claimed_by": {"B": second}}, part=second)
    except aws.ClientError as exc:
        seen.append(aws.error_code(exc))
    backend.delete(key)
    return [*seen, backend.get(b"a")]


def _parts(item: dict[str, Any]) -> list[Any]:
    return sorted(map(base64.b64encode, item["parts"]["BS"]))


def failures(settings: Any) -> list[Any]:
    """List what is not there."""
    store = Failures(settings)
    return [list(store.all()), store.get("failure#none"), store.count()]


@pytest.mark.parametrize("ask", [claims, answers, rates, revocations, bodies, results, failures])
def test_the_answers_are_those_of_the_emulated_aws(stack, ask: Callable[[Any], list[Any]]):
    app = Celery("parity", set_as_current=False)
    by_emulator = ask(stack.settings)

    with LambdaCeleryQueue(app) as queue:
        in_memory = ask(queue.settings)

    assert in_memory == by_emulator
