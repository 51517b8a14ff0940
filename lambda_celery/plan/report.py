"""What ``celery -A proj lambda plan`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lambda_celery.plan.cost import (
    DAYS_PER_MONTH,
    Cost,
    cost_of,
    pollers_usd_per_month,
    workers_usd_per_month,
)
from lambda_celery.plan.drain import Drain, Point, WorkersDrain
from lambda_celery.plan.figures import figure, figures
from lambda_celery.plan.limits import Limit, Limits
from lambda_celery.plan.model import Burst, Function, Workers
from lambda_celery.plan.simulation import messages_left, simulate, simulate_workers

_BAR_WIDTH = 24
#: A limit that binds for a smaller part of the time is not worth a sentence.
_SHARE_WORTH_TELLING = 0.1

_ADVICE = {
    Limit.MAXIMUM_CONCURRENCY: "raise it, as far as the database and the "
    "providers that the tasks call stand it",
    Limit.EVENT_SOURCE_MAPPING: "run more tasks in each environment (--concurrency), spread "
    "the messages over several queues, or give the event source mapping pollers of its own "
    "(--maximum-pollers)",
    Limit.ACCOUNT_CONCURRENCY: "ask AWS for a higher concurrency quota, or run more tasks in "
    "each environment (--concurrency)",
    Limit.DATABASE_CONNECTIONS: "put a connection pooler (RDS Proxy, PgBouncer) before the "
    "database, or let it take more connections",
    Limit.IN_FLIGHT_MESSAGES: "make the batches smaller",
    Limit.RATE_LIMIT: "ask the provider for a higher rate; more concurrency changes nothing",
    Limit.BATCH_ASSEMBLY: "shorten the batch window",
    Limit.LAST_BATCHES: "make the batches smaller, if it has to be faster: everything is "
    "under way at once, and what is left is the time of a batch or two",
}


@dataclass(frozen=True)
class Plan:
    """A burst, through the function and through always-on workers."""

    burst: Burst
    function: Function
    limits: Limits
    workers: Workers
    drain: Drain
    workers_drain: WorkersDrain
    cost: Cost


def make_plan(burst: Burst, function: Function, limits: Limits, workers: Workers) -> Plan:
    """Simulate both ways. Raises :exc:`ConfigurationError` if the function cannot run a batch."""
    drain = simulate(burst, function, limits)
    return Plan(
        burst,
        function,
        limits,
        workers,
        drain,
        simulate_workers(burst, workers, limits),
        cost_of(burst, function, limits, drain),
    )


def report(plan: Plan, bursts_per_day: float) -> Iterator[str]:
    """Yield the lines to print."""
    drain, workers = plan.drain, plan.workers
    yield (
        f"{plan.burst.messages:,} messages of {plan.burst.duration_seconds:g} s, "
        f"in batches of up to {plan.function.batch_size}"
    )
    yield ""
    monthly = plan.cost.usd * bursts_per_day * DAYS_PER_MONTH + pollers_usd_per_month(plan.limits)
    label = f"{workers.count} workers of {workers.processes}"
    yield from _table(
        [
            ("", "Lambda", label),
            ("drained after", duration(drain.seconds), duration(plan.workers_drain.seconds)),
            (
                "tasks at once, at most",
                f"{drain.environments * plan.function.concurrency:,}",
                f"{plan.workers_drain.concurrency:,}",
            ),
            ("a burst costs", f"${plan.cost.usd:,.2f}", ""),
            (
                f"a month, {bursts_per_day:g} a day",
                f"${monthly:,.2f}",
                f"${workers_usd_per_month(workers):,.2f}",
            ),
        ]
    )
    yield ""
    yield "What limited it"
    yield from _table(
        [
            (f"  {limit.value}", duration(seconds), f"{seconds / drain.seconds:.0%}")
            for limit, seconds in _by_time(drain)
        ]
    )
    if drain.returns:
        yield f"  Messages are sent on {drain.returns:,} times, as it is not their turn yet."
    yield ""
    yield "What a burst costs"
    yield from _table(
        [(f"  {each.name}", f"{each.amount:,.0f}", f"${each.usd:,.2f}") for each in plan.cost.items]
    )
    yield ""
    yield "Messages left"
    yield from _curves(drain.curve, plan.workers_drain.curve, label)
    yield ""
    yield from what_limits(plan)
    oldest = min(each.read for each in figures().values() if each.unit.startswith("USD"))
    yield (
        f"Each worker is reckoned at {workers.vcpu:g} vCPU and {workers.memory_gb:g} GB on "
        f"Fargate, always on. Prices: us-east-1, read {oldest} or later, without free tiers."
    )


def what_limits(plan: Plan) -> Iterator[str]:
    """Yield a sentence for each limit that matters: what it is, and what to change."""
    drain = plan.drain
    for limit, seconds in _by_time(drain):
        share = seconds / drain.seconds
        if limit is drain.main_limit or share >= _SHARE_WORTH_TELLING:
            advice = _advice(limit, plan)
            yield f"For {share:.0%} of the time, the limit is {limit.value}: {advice}."


def _advice(limit: Limit, plan: Plan) -> str:
    function, limits = plan.function, plan.limits
    match limit:
        case Limit.RAMP if limits.pollers is not None:
            return (
                "keep more pollers (--minimum-pollers), which are there when the burst comes, or "
                "run more tasks in each environment (--concurrency)"
            )
        case Limit.RAMP:
            return (
                "AWS sets its speed: publish earlier, make the tasks shorter, or run more of "
                "them in each environment (--concurrency). Where that is not enough, the event "
                "source mapping's provisioned mode (--minimum-pollers) ramps faster"
            )
        case Limit.INVOCATION_RATE:
            rate = figure("environment_invocations_per_second")
            return (
                f"Lambda invokes an environment {rate:g} times a second at most, and a batch takes "
                f"{function.batch_seconds(function.batch_size, plan.burst):.2g} s: make the "
                f"batches larger (--batch-size), so that one takes {1 / rate:g} s or more"
            )
        case Limit.CPU:
            return _advice_on_cpu(plan)
        case Limit.TABLE_WRITES:
            return (
                f"it takes {limits.table_writes_per_second:,.0f} a second, and a task writes "
                f"{limits.writes_per_task} times; what it refuses comes back, and counts as a "
                "receive. A new table on demand takes about "
                f"{figure('table_writes_per_second'):,.0f}: raise its WarmThroughput before the "
                "burst (--table-writes), or set MaximumConcurrency to what it takes"
            )
        case Limit.POLLERS:
            return (
                f"a poller runs {figure('poller_concurrency'):g} invocations at a time, receives "
                f"{figure('poller_receives_per_second'):g} times a second and takes "
                f"{figure('poller_megabytes_per_second'):g} MB a second: let there be more "
                "(--maximum-pollers, --minimum-pollers), or make batches larger or messages smaller"
            )
        case Limit.SCHEDULER:
            return (
                f"it puts {figure('scheduler_invocations_per_second'):,.0f} messages a second on "
                "the queue by default: spread their ETA over more minutes, or ask AWS for a higher "
                "quota (its invocations throttle limit)"
            )
        case _:
            return _ADVICE[limit]


def _advice_on_cpu(plan: Plan) -> str:
    function = plan.function
    vcpus = function.memory_mb / figure("vcpu_memory_mb")
    does = (
        f"{function.memory_mb:,} MB are {vcpus:.2g} vCPU, and a process does "
        f"{function.cpu_tasks_per_second(plan.burst):,.3g} of these tasks a second"
    )
    if function.vcpus < 1:
        return (
            f"{does}: give the function more memory (--memory), up to "
            f"{figure('vcpu_memory_mb'):,.0f} MB, which are a whole vCPU; a process uses no more"
        )
    return (
        f"{does}, since it uses one vCPU at most: it takes more environments, with smaller "
        "batches, to be faster"
    )


def _by_time(drain: Drain) -> list[tuple[Limit, float]]:
    return sorted(drain.limited_seconds.items(), key=lambda each: -each[1])


def duration(seconds: float) -> str:
    """Return *seconds* for people: ``4.2 s``, ``3 min 20 s``, ``2 h 46 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def _curves(ours: Sequence[Point], theirs: Sequence[Point], label: str) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("  after", "Lambda", label)]
    for seconds in _times(ours, theirs):
        bars = (_bar(messages_left(c, seconds), c[0].messages_left) for c in (ours, theirs))
        rows.append((f"  {duration(seconds)}", *bars))
    width = max(len(row[0]) for row in rows)
    for after, *cells in rows:
        yield f"{after:<{width}}  {'  '.join(f'{c:<{_BAR_WIDTH + 11}}' for c in cells)}".rstrip()


def _times(*curves: Sequence[Point]) -> list[float]:
    """Return the quarters of each curve: on an even scale the quicker one would be a cliff."""
    times: list[float] = []
    for seconds in sorted({c[-1].seconds * part / 4 for c in curves for part in range(5)})[::-1]:
        if not times or seconds < times[-1] * 0.98:  # else it would be the same row again
            times.append(seconds)
    return times[::-1]


def _bar(left: int, messages: int) -> str:
    return f"{'█' * round(left / messages * _BAR_WIDTH)} {left:,}".strip()


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{first:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield "   ".join(cells).rstrip()
