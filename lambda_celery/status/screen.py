"""The figures as one screen of text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lambda_celery.status.figures import (
    NOTHING,
    FunctionStatus,
    QueueStatus,
    Status,
    TaskStatus,
    span,
)

_BLOCKS = "▁▂▃▄▅▆▇█"
#: So many columns are drawn of the last hour: each is of some minutes.
_COLUMNS = 20


def sparkline(values: Sequence[float], columns: int = _COLUMNS) -> str:
    """Return *values* as so many *columns* of blocks, each the mean of its part; "" of none."""
    if not values:
        return ""
    columns = min(columns, len(values))
    edges = [len(values) * n // columns for n in range(columns + 1)]
    means = [sum(values[first:last]) / (last - first) for first, last in pairwise(edges)]
    highest = max(means)
    if highest <= 0:
        return _BLOCKS[0] * columns
    # The lowest block is none at all, so that a little can be told from nothing.
    return "".join(
        _BLOCKS[0] if each <= 0 else _BLOCKS[max(1, round(each / highest * (len(_BLOCKS) - 1)))]
        for each in means
    )


def screen(status: Status) -> RenderableType:
    """Return all of *status*, for rich to print."""
    parts: list[RenderableType] = [
        Text(f"{status.time:%Y-%m-%d %H:%M:%S} UTC", style="dim"),
        Text(),
        _queues(status.queues),
    ]
    if status.functions:
        parts += [Text(), _functions(status)]
    if status.tasks:
        parts += [Text(), _tasks(status.tasks)]
    if status.left_out:
        parts += [Text(), *(Text(each, style="yellow") for each in status.left_out)]
    return Group(*parts)


def _queues(queues: Sequence[QueueStatus]) -> Table:
    table = _table("Queue", "Waiting", "In flight", "Delayed", "Oldest", "Empty in", "Parked")
    table.add_column("Last hour", no_wrap=True)
    table.add_column("Mapping")
    for each in queues:
        parked = Text(_count(each.parked), style="bold red" if each.parked else "")
        table.add_row(
            each.name,
            _count(each.waiting),
            _count(each.in_flight),
            _count(each.delayed),
            span(each.oldest_seconds),
            _drain(each),
            parked,
            sparkline(each.waiting_by_minute),
            _mappings(each),
        )
    return table


def _functions(status: Status) -> Table:
    table = _table(
        "Function", "Invocations", "Errors", "Throttles", "Mean", "Longest", "At once", "Today",
        "Deployed",
    )  # fmt: skip
    table.add_column("Last hour", no_wrap=True)
    ages = {e.function: (status.time - e.time).total_seconds() for e in status.deployments}
    for each in status.functions:
        table.add_row(
            each.name,
            _sum(each.invocations),
            _bad(each.errors, each),
            _bad(each.throttles, each),
            _milliseconds(each.duration_ms),
            _milliseconds(each.duration_maximum_ms),
            _count(each.concurrent),
            NOTHING if each.usd_today is None else f"${each.usd_today:.2f}",
            _ago(ages.get(each.name)),
            sparkline(each.invocations),
        )
    return table


def _tasks(tasks: Sequence[TaskStatus]) -> Table:
    table = _table("Task", "Queue", "Succeeded", "Failed", "Retried", "Mean")
    table.columns[1].justify = "left"
    table.add_column("Last hour", no_wrap=True)
    for each in sorted(tasks, key=lambda each: -sum(each.succeeded + each.failed + each.retried)):
        table.add_row(
            each.name,
            each.queue,
            _sum(each.succeeded),
            Text(_sum(each.failed), style="bold red" if sum(each.failed) else ""),
            _sum(each.retried),
            _milliseconds(each.duration_ms),
            sparkline(each.succeeded),
        )
    return table


def _table(name: str, *figures: str) -> Table:
    table = Table(name, box=None, pad_edge=False, header_style="bold")
    for each in figures:
        table.add_column(each, justify="right")
    return table


def _mappings(queue: QueueStatus) -> Text:
    lines = []
    for each in queue.mappings:
        state = {"Enabled": "on", "Disabled": "paused"}.get(each.state, each.state.lower())
        maximum = f", {each.maximum_concurrency} at once" if each.maximum_concurrency else ""
        style = "" if each.state == "Enabled" else "bold yellow"
        lines.append(Text(f"{state}{maximum}", style=style))
    return Text("\n").join(lines) if lines else Text(NOTHING)


def _drain(queue: QueueStatus) -> str:
    if queue.drain_seconds is not None:
        return span(queue.drain_seconds)
    if queue.trend_per_minute is None:
        return NOTHING
    growth = round(queue.trend_per_minute)
    return f"+{growth:,}/min" if growth > 0 else "steady"


def _ago(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{span(max(0.0, seconds))} ago"


def _count(number: float | None) -> str:
    return NOTHING if number is None else f"{number:,.0f}"


def _sum(values: Sequence[float]) -> str:
    return _count(sum(values)) if values else NOTHING


def _bad(values: Sequence[float], function: FunctionStatus) -> Text:
    # CloudWatch may have no points of what never happened.
    text = _sum(values) if values or not function.invocations else "0"
    return Text(text, style="bold red" if sum(values) else "")


def _milliseconds(number: float | None) -> str:
    return NOTHING if number is None else f"{number:,.0f} ms"
