"""What a burst costs, and what always-on workers cost; us-east-1, without free tiers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lambda_celery.message import MAXIMUM_ENTRIES
from lambda_celery.plan.drain import Drain
from lambda_celery.plan.figures import figure
from lambda_celery.plan.limits import Limits
from lambda_celery.plan.model import Burst, Function, Workers

HOURS_PER_MONTH = 730
DAYS_PER_MONTH = HOURS_PER_MONTH / 24

_MILLION = 1_000_000
#: A token that is not to be had, and the place in the line.
_WRITES_PER_RETURN = 2
#: Each environment looks once a second for what was revoked, in a strongly consistent read.
_READS_PER_SECOND = 1
#: What a poller is billed for at least.
_POLLER_SECONDS = 60


@dataclass(frozen=True)
class Item:
    """One line of the bill: so many of something, in US dollars."""

    name: str
    amount: float
    usd: float


@dataclass(frozen=True)
class Cost:
    """What a burst costs, by item."""

    items: tuple[Item, ...]

    @property
    def usd(self) -> float:
        """The sum of the items, in US dollars."""
        return sum(item.usd for item in self.items)


def cost_of(burst: Burst, function: Function, limits: Limits, drain: Drain) -> Cost:
    """Return what draining *burst* costs: Lambda, SQS and DynamoDB, pollers and schedules.

    Messages are taken to be sent one by one, and to be of up to 64 KB. What is sent on by the
    rate limit is received and deleted in full batches. Pollers count that are there for the burst:
    the others are :func:`pollers_usd_per_month`.
    """
    invocations = drain.invocations + math.ceil(drain.returns / function.batch_size)
    sends = burst.messages + drain.returns
    # A receive and a delete for every ten.
    transfers = 2 * math.ceil(function.batch_size / MAXIMUM_ENTRIES) * invocations
    writes = limits.writes_per_task * burst.messages + _WRITES_PER_RETURN * drain.returns
    reads = _READS_PER_SECOND * drain.billed_seconds
    items = [
        *lambda_items(invocations, drain.billed_seconds, function.memory_mb, function.architecture),
        _per_million("SQS requests", sends + transfers, "sqs_million_requests_usd"),
        _per_million("DynamoDB writes", writes, "dynamodb_million_writes_usd"),
        _per_million("DynamoDB reads", reads, "dynamodb_million_reads_usd"),
    ]
    if limits.pollers is not None:
        needed = math.ceil(drain.environments / limits.pollers.concurrency(1))
        added = max(0, needed - limits.pollers.minimum)
        hours = added * max(drain.seconds, _POLLER_SECONDS) / 3600
        items.append(Item("Poller hours", hours, hours * figure("poller_hour_usd")))
    if burst.is_scheduled:
        price = "scheduler_million_invocations_usd"
        items.append(_per_million("Schedules", burst.messages, price))
    return Cost(tuple(items))


def lambda_items(
    invocations: float, seconds: float, memory_mb: int, architecture: str
) -> tuple[Item, Item]:
    """Return what Lambda bills for so many *invocations* of *seconds* in all."""
    gb_seconds = seconds * memory_mb / 1024
    per_gb_second = figure(f"lambda_gb_second_{architecture}_usd")
    return (
        _per_million("Lambda requests", invocations, "lambda_million_requests_usd"),
        Item("Lambda GB-seconds", gb_seconds, gb_seconds * per_gb_second),
    )


def pollers_usd_per_month(limits: Limits) -> float:
    """Return what the pollers cost in a month that are always there, in US dollars."""
    if limits.pollers is None:
        return 0.0
    return limits.pollers.minimum * figure("poller_hour_usd") * HOURS_PER_MONTH


def workers_usd_per_month(workers: Workers) -> float:
    """Return what *workers* cost in a month on Fargate, busy or not, in US dollars."""
    per_hour = workers.vcpu * figure("fargate_vcpu_hour_usd")
    per_hour += workers.memory_gb * figure("fargate_gb_hour_usd")
    return workers.count * per_hour * HOURS_PER_MONTH


def _per_million(name: str, amount: float, price: str) -> Item:
    return Item(name, amount, amount / _MILLION * figure(price))
