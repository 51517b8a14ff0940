"""What the plan says against what the local event source mapping and function do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lambda_celery.plan.limits import Limits
from lambda_celery.plan.model import Burst, Function
from lambda_celery.plan.simulation import simulate

HANDLER = """
def handler(event, context):
    return {"batchItemFailures": []}
"""


@pytest.mark.parametrize(
    ("messages", "batch_size", "window_seconds", "sizes"),
    [(23, 5, 0, {5: 4, 3: 1}), (20, 10, 0, {10: 2}), (47, 20, 1, {20: 2, 7: 1})],
)
def test_a_burst_takes_as_many_invocations_as_planned(
    stack: Any,
    tmp_path: Any,
    local_function: Any,
    event_source_mapping: Any,
    messages: int,
    batch_size: int,
    window_seconds: int,
    sizes: dict[int, int],
) -> None:
    # Given a burst that is on the queue before anything polls it
    stack.send(*["{}"] * messages)
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    function = local_function("lambda_module.handler", maximum_concurrency=2)
    batches: list[int] = []

    # When it is drained here
    mapping = event_source_mapping(
        stack,
        function,
        batch_size=batch_size,
        maximum_batching_window_seconds=window_seconds,
        maximum_concurrency=2,
        on_batch=lambda report: batches.append(len(report.message_ids)),
    )
    mapping.wait_until_idle(60)

    # Then it took the batches that the plan has, on no more environments
    planned = simulate(
        Burst(messages, duration_seconds=0.01),
        Function(batch_size=batch_size, batch_window_seconds=window_seconds),
        Limits(maximum_concurrency=2),
    )
    assert len(batches) == planned.invocations
    assert Counter(batches) == sizes
    assert planned.environments <= 2
