"""A shop's figures that are always the same, for the tests and for the pictures in the docs."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from lambda_celery.status.attempts import Attempt, Attempts
from lambda_celery.status.figures import (
    DURATION_BOUNDS_MS,
    Deployment,
    FunctionStatus,
    MappingStatus,
    QueueStatus,
    Status,
    TaskStatus,
)

NOW = datetime(2026, 7, 1, 12, 0, 20, tzinfo=UTC)
MINUTES = 60
#: When a version was deployed that fails often, and when one that does not.
_BROKEN, _MENDED = 31, 45


def _task(name: str, queue: str, most: int, mean_ms: float, seed: int) -> TaskStatus:
    chance = random.Random(seed)
    succeeded, failed, retried, durations = [], [], [], []
    for minute in range(MINUTES):
        wave = 0.6 + 0.4 * math.sin(minute / 9 + seed)
        runs = max(0, round(most * wave + chance.gauss(0, most / 10)))
        is_broken = _BROKEN <= minute < _MENDED
        rate = 0.25 if is_broken and name == "shop.charge_card" else 0.003
        bad = sum(chance.random() < rate for _ in range(runs))
        buckets = [0] * (len(DURATION_BOUNDS_MS) + 1)
        for _ in range(runs):
            took = chance.lognormvariate(math.log(mean_ms * (2.5 if is_broken else 1)), 0.7)
            buckets[sum(took > each for each in DURATION_BOUNDS_MS)] += 1
        succeeded.append(runs - bad)
        failed.append(bad // 3)
        retried.append(bad - bad // 3)
        durations.append(tuple(buckets))
    return TaskStatus(
        name, queue, tuple(succeeded), tuple(failed), tuple(retried), mean_ms, tuple(durations)
    )


def _wave(seed: int, most: float) -> tuple[float, ...]:
    chance = random.Random(seed)
    return tuple(
        max(0, round(most * (0.5 + 0.5 * math.sin(minute / 8 + seed)) + chance.gauss(0, most / 12)))
        for minute in range(MINUTES)
    )


def busy() -> Status:
    """Return the figures of a shop with much to do, after a version that failed."""
    started = NOW.replace(second=0) - timedelta(minutes=MINUTES - 1)
    return Status(
        time=NOW,
        started=started,
        queues=(
            QueueStatus(
                "mail", "shop-mail", 1180, 60, 0, 0, 190, -84.0, 843, _wave(1, 2000),
                (MappingStatus("1", "Enabled", "shop-mail", 20),),
            ),
            QueueStatus(
                "payments", "shop-payments", 42, 8, 12, 17, 21, -6.0, 420, _wave(2, 90),
                (MappingStatus("2", "Enabled", "shop-payments", 10),),
            ),
            QueueStatus(
                "reports", "shop-reports", 12, 0, 3, 0, 540, 1.2, None, _wave(3, 12),
                (MappingStatus("3", "Disabled", "shop-reports", 2),),
            ),
        ),
        functions=(
            FunctionStatus("shop-mail", 512, _wave(4, 60), (), (0,) * 60, 228, 6100, 20, 0.42),
            FunctionStatus(
                "shop-payments", 1024, _wave(5, 30), (0,) * 59 + (2,), (0,) * 58 + (3, 0),
                812, 9400, 8, 0.18,
            ),
            FunctionStatus("shop-reports", 2048),
        ),
        left_out=(
            "CloudWatch refuses the figures of shop-reports: allow cloudwatch:GetMetricData.",
        ),
        tasks=(
            _task("shop.send_mail", "shop-mail", 220, 180, 1),
            _task("shop.charge_card", "shop-payments", 60, 700, 2),
            _task("shop.make_report", "shop-reports", 3, 9000, 3),
        ),
        deployments=(
            Deployment(started + timedelta(minutes=_BROKEN), "shop-payments", "41"),
            Deployment(started + timedelta(minutes=_MENDED), "shop-payments", "42"),
        ),
    )  # fmt: skip


def idle() -> Status:
    """Return the figures of an app that has not run a task yet."""
    return Status(NOW, (QueueStatus("mail", "shop-mail", 0, 0, 0, 0),), ())


def chain() -> Attempts:
    """Return the attempts of an order: charged at the second attempt, and its receipt sent."""
    first = Attempt(
        NOW - timedelta(seconds=95), "5d0c6a52-order", "shop.place_order", "shop-payments",
        "5d0c6a52-order", "", "succeeded", 0, 1, 420.0, "", "request-1", "message-1",
    )  # fmt: skip
    charge = replace(
        first, task="shop.charge_card", task_id="93f1e0b7-charge", parent_id="5d0c6a52-order"
    )
    receipt = replace(
        first, task="shop.send_mail", task_id="c4a97d10-receipt", queue="shop-mail",
        parent_id="93f1e0b7-charge",
    )  # fmt: skip

    def after(attempt: Attempt, seconds: float, **other: object) -> Attempt:
        return replace(attempt, time=first.time + timedelta(seconds=seconds), **other)

    return Attempts(
        (
            first,
            after(charge, 6, end="retried", duration_ms=5012.0, exception="ConnectTimeout"),
            after(charge, 38, end="retried", retries=1, duration_ms=5020.0,
                  exception="ConnectTimeout"),
            after(charge, 71, end="succeeded", retries=2, duration_ms=812.0),
            after(receipt, 73, end="succeeded", duration_ms=178.0),
        )
    )  # fmt: skip


@dataclass
class Figures:
    """A source of what the test has put there."""

    now: Status = field(default_factory=busy)
    found: Attempts = field(default_factory=chain)
    asked: list[str] = field(default_factory=list)

    def status(self) -> Status:
        """Return the figures."""
        return self.now

    def attempts(self, task_id: str) -> Attempts:
        """Return the attempts, of whatever task."""
        self.asked.append(task_id)
        return self.found
