"""``lambda status``: what is computed of its figures, and how they are drawn."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
from celery import Celery
from rich.console import Console

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.cost import lambda_items
from lambda_celery.status import tasks
from lambda_celery.status.figures import (
    Deployment,
    FunctionStatus,
    MappingStatus,
    QueueStatus,
    Sample,
    Status,
    TaskStatus,
    by_minute,
    seconds_to_drain,
    span,
    trend_per_second,
)
from lambda_celery.status.gathering import Gatherer
from lambda_celery.status.screen import screen, sparkline

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def drawn(queue: QueueStatus, *functions: FunctionStatus, left_out: tuple[str, ...] = ()) -> str:
    out = io.StringIO()
    console = Console(file=out, width=160, color_system=None)
    console.print(screen(Status(NOW, (queue,), functions, left_out)))
    return out.getvalue()


class TestTimeToDrain:
    def test_is_told_by_the_straight_line_through_the_last_minutes(self):
        samples = [Sample(60 * n, 1000 - 100 * n) for n in range(5)]

        trend = trend_per_second(samples)

        assert trend == pytest.approx(-100 / 60)
        assert seconds_to_drain(600, trend) == pytest.approx(360)

    def test_what_was_before_these_minutes_does_not_count(self):
        grew = [Sample(n, 100 * n) for n in range(10)]
        shrinks = [Sample(1000 + 60 * n, 500 - 60 * n) for n in range(3)]

        assert trend_per_second([*grew, *shrinks]) == pytest.approx(-1)

    def test_one_look_makes_no_trend(self):
        assert trend_per_second([Sample(0, 5)]) is None
        assert trend_per_second([Sample(0, 5), Sample(0, 5)]) is None
        assert trend_per_second([]) is None

    @pytest.mark.parametrize("trend", [None, 0.0, 2.5, -1e-9])
    def test_there_is_none_where_messages_do_not_become_fewer(self, trend):
        assert seconds_to_drain(10, trend) is None
        assert seconds_to_drain(0, trend) == 0


class TestByMinute:
    def test_a_minute_without_a_point_is_zero(self):
        assert by_minute([(60, 7.0), (180, 9.0)], 245, 4) == (0, 7, 0, 9)

    def test_no_points_are_no_minutes(self):
        assert by_minute([], 245, 4) == ()


class TestTasks:
    def test_each_run_is_in_the_bucket_that_its_duration_is_at_most(self):
        # Given: a run of 10 ms at most, and two that took longer than all bounds
        pairs = [("proj-mail", "proj.send")]
        asked = list(tasks.durations("ns", pairs))
        points = {each: [] for each in [*tasks.wanted("ns", pairs), *asked]}
        points[asked[0]], points[asked[-1]] = [(60, 1.0)], [(120, 2.0)]

        # When
        [found] = tasks.statuses("ns", pairs, points, 185, 2)

        # Then
        statistics = [each.statistic for each in asked]
        assert statistics[:2] == ["TC(:10)", "TC(10:50)"]
        assert statistics[-1] == "TC(30000:)"
        assert found.durations == ((1, 0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 2))
        assert (found.succeeded, found.duration_ms) == ((0, 0), None)

    def test_what_could_not_be_read_is_no_zero(self):
        [found] = tasks.statuses("ns", [("q", "t")], {}, 185, 2)
        assert found == TaskStatus("t", "q")

    def test_durations_are_asked_of_the_busiest_alone(self):
        pairs = [("q", f"t{n}") for n in range(20)]
        asked = list(tasks.durations("ns", pairs))
        assert {dict(each.dimensions)["TaskName"] for each in asked} == {f"t{n}" for n in range(5)}


class TestSparkline:
    def test_goes_from_nothing_to_the_highest(self):
        assert sparkline([0, 1, 50, 100], columns=4) == "▁▂▅█"

    def test_a_column_is_the_mean_of_its_minutes(self):
        assert sparkline([0, 0, 4, 4], columns=2) == "▁█"
        assert len(sparkline(list(range(61)))) == 20

    def test_of_nothing_there_is_none_and_of_zeros_a_line(self):
        assert sparkline([]) == ""
        assert sparkline([0, 0]) == "▁▁"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0, "0 s"), (59.4, "59 s"), (60, "1 min"), (61, "1 min 1 s"),
     (3 * 3600 + 125, "3 h 2 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_a_time_is_said_in_its_largest_unit(seconds, said):
    assert span(seconds) == said


def test_lambda_costs_its_requests_and_its_gigabyte_seconds():
    requests, gigabyte_seconds = lambda_items(1_000_000, 3600, 512, "arm64")

    assert requests.usd == pytest.approx(0.20)
    assert gigabyte_seconds.amount == 1800
    assert gigabyte_seconds.usd == pytest.approx(1800 * 1.33334e-05)


class TestScreen:
    def test_has_each_figure(self):
        mapping = MappingStatus("uuid", "Enabled", "mail:live", 10)
        queue = QueueStatus(
            "mail", "proj-mail", 1200, 20, 3, parked=2, oldest_seconds=75, trend_per_minute=-600,
            drain_seconds=120, waiting_by_minute=(0, 5, 10), mappings=(mapping,),
        )  # fmt: skip
        function = FunctionStatus(
            "proj-mail", 512, (10.0, 20.0), (0.0, 1.0), (), 812.0, 3000.0, 7, 1.234
        )

        text = drawn(queue, function, left_out=("AWS refused it.",))

        assert "2026-05-01 12:00:00 UTC" in text
        assert "mail 1,200 20 3 1 min 15 s 2 min 2 ▁▅█ on, 10 at once" in " ".join(text.split())
        assert "proj-mail 30 1 0 812 ms 3,000 ms 7 $1.23" in " ".join(text.split())
        assert text.rstrip().endswith("AWS refused it.")

    def test_has_a_line_of_each_task_the_busiest_first(self):
        rare = TaskStatus("proj.bill", "proj-mail", (0.0, 0.0), (0.0, 2.0), (0.0, 0.0))
        often = TaskStatus("proj.send", "proj-mail", (9.0, 8.0), (0.0, 0.0), (1.0, 0.0), 12.3)
        out = io.StringIO()
        status = Status(NOW, (QueueStatus("mail", "proj-mail", 1),), (), (), (rare, often))
        Console(file=out, width=160, color_system=None).print(screen(status))

        lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]

        assert lines[-2] == "proj.send proj-mail 17 0 1 12 ms █▇"
        assert lines[-1] == "proj.bill proj-mail 0 2 0 - ▁▁"

    @pytest.mark.parametrize(("trend", "said"), [(None, "-"), (12.4, "+12/min"), (0.0, "steady")])
    def test_says_how_messages_grow_that_do_not_become_fewer(self, trend, said):
        queue = QueueStatus("mail", "mail", 10, 0, 0, trend_per_minute=trend)
        assert drawn(queue).splitlines()[3].split()[5] == said

    def test_what_is_not_known_is_a_dash(self):
        assert drawn(QueueStatus("mail", "mail")).splitlines()[3].split() == ["mail", *"-------"]

    def test_a_mapping_that_is_off_is_paused(self):
        queue = QueueStatus("m", "m", 1, mappings=(MappingStatus("u", "Disabled", "m", None),))
        assert "paused" in drawn(queue)


def test_as_json_it_is_one_object():
    status = Status(
        NOW, (QueueStatus("mail", "proj-mail", 1),), (), ("A sentence.",),
        (TaskStatus("proj.send", "proj-mail"),), (Deployment(NOW, "mail", "7"),),
    )  # fmt: skip

    read = json.loads(json.dumps(status.as_json()))

    assert read["time"] == "2026-05-01T12:00:00+00:00"
    assert read["queues"][0]["waiting"] == 1
    assert read["queues"][0]["parked"] is None
    assert read["left_out"] == ["A sentence."]
    assert read["tasks"][0]["name"] == "proj.send"
    assert read["deployments"] == [
        {"time": "2026-05-01T12:00:00+00:00", "function": "mail", "version": "7"}
    ]
    assert read["started"] is None


def test_without_a_queue_in_the_settings_there_is_nothing_to_look_at():
    with pytest.raises(ConfigurationError, match="name no queue: set"):
        Gatherer(Celery("proj", set_as_current=False))
