"""The simulation behind ``celery -A proj lambda plan``."""

from __future__ import annotations

import sys
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from lambda_celery.cli import lambda_command
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.cost import cost_of, workers_usd_per_month
from lambda_celery.plan.figures import figure, figures
from lambda_celery.plan.model import Burst, Drain, Function, Limit, Limits, Workers
from lambda_celery.plan.simulation import (
    PATIENCE_SECONDS,
    messages_left,
    simulate,
    simulate_workers,
)
from lambda_runtime.table import rate_limits as rate_limit

BURST = Burst(messages=100_000, duration_seconds=0.2)
#: Batches of ten that take two seconds, so that 100 environments take in 500 tasks a second.
FUNCTION = Function(batch_size=10, cold_start_seconds=0)


def drain(function: Function = FUNCTION, burst: Burst = BURST, **limits: Any) -> Drain:
    return simulate(burst, function, Limits(**limits))


class TestWhatLimits:
    @pytest.mark.parametrize(
        ("limits", "limit"),
        [
            ({"maximum_concurrency": 20}, Limit.MAXIMUM_CONCURRENCY),
            ({"maximum_concurrency": 500, "database_connections": 20}, Limit.DATABASE_CONNECTIONS),
            ({"account_concurrency": 20}, Limit.ACCOUNT_CONCURRENCY),
            ({"tasks_per_second": 50.0}, Limit.RATE_LIMIT),
            ({}, Limit.RAMP),
        ],
    )
    def test_the_tightest_limit_is_named(self, limits, limit):
        assert drain(**limits).main_limit is limit

    def test_a_burst_in_flight_at_once_is_limited_by_its_last_batches(self):
        result = drain(burst=Burst(50, 0.2))

        assert result.limited_seconds == {Limit.LAST_BATCHES: 2.0}

    def test_the_event_source_mapping_has_a_maximum_of_its_own(self):
        limits = Limits(account_concurrency=10_000)

        assert limits.cap(FUNCTION) == (1250, Limit.EVENT_SOURCE_MAPPING)

    def test_big_batches_exhaust_the_messages_in_flight(self):
        function = Function(batch_size=10_000, batch_window_seconds=1)

        assert Limits().cap(function) == (12, Limit.IN_FLIGHT_MESSAGES)

    def test_a_batch_that_is_not_full_waits_for_its_window(self):
        function = Function(batch_size=10, batch_window_seconds=5, cold_start_seconds=0)

        result = drain(function, Burst(23, 0.2))

        assert result.limited_seconds[Limit.BATCH_ASSEMBLY] == 5
        assert result.seconds == pytest.approx(5 + 3 * 0.2)

    def test_concurrency_in_an_environment_uses_up_connections(self):
        function = Function(concurrency=8, cold_start_seconds=0)

        result = drain(function, database_connections=20)

        assert result.environments == 2

    @pytest.mark.parametrize(
        "limits",
        [
            {},
            {"maximum_concurrency": 20},
            {"maximum_concurrency": 300, "tasks_per_second": 400.0},
        ],
    )
    def test_the_limits_share_the_whole_time(self, limits):
        result = drain(Function(batch_size=15, batch_window_seconds=3), **limits)

        assert sum(result.limited_seconds.values()) == pytest.approx(result.seconds)


class TestTime:
    def test_the_maximum_concurrency_is_used_up(self):
        result = drain(maximum_concurrency=5)

        assert result.environments == 5
        assert result.seconds == pytest.approx(100_000 * 0.2 / 5)

    def test_the_ramp_is_five_and_then_five_more_each_second(self):
        limits = Limits()

        assert [limits.opens_at(n) for n in (0, 4, 5, 9, 304)] == [0, 0, 0.2, 1, 60]

    def test_the_ramp_bounds_what_is_done_early(self):
        # Given tasks that outlast the ramp, one to a batch
        function = Function(batch_size=1, timeout_seconds=900, cold_start_seconds=0)

        result = drain(function, Burst(305, 600))

        # Then the last of the 305 starts after a minute
        assert result.environments == 305
        assert result.seconds == pytest.approx(660)

    @pytest.mark.parametrize("limits", [{}, {"tasks_per_second": 300.0}])
    def test_more_concurrency_is_never_slower(self, limits):
        times = [drain(maximum_concurrency=n, **limits).seconds for n in (2, 3, 10, 50, 200, 1000)]

        assert times == sorted(times, reverse=True)

    def test_more_concurrency_in_an_environment_is_never_slower(self):
        times = [
            drain(Function(concurrency=n), maximum_concurrency=20).seconds for n in range(1, 12)
        ]

        assert times == sorted(times, reverse=True)

    def test_a_rate_limit_spreads_the_tasks_evenly(self):
        result = drain(tasks_per_second=50.0)

        assert result.seconds == pytest.approx(100_000 / 50, rel=0.01)

    def test_a_task_waits_for_its_token_as_long_as_in_the_runtime(self):
        assert PATIENCE_SECONDS == rate_limit.PATIENCE_SECONDS

    def test_each_new_environment_starts_cold_and_is_billed_for_it(self):
        cold = drain(Function(cold_start_seconds=3), maximum_concurrency=20)
        warm = drain(maximum_concurrency=20)

        assert cold.environments == warm.environments == 20
        assert cold.billed_seconds - warm.billed_seconds == pytest.approx(20 * 3)

    def test_every_message_is_in_one_batch(self):
        assert drain(burst=Burst(100_001, 0.2)).invocations == 10_001

    def test_the_curve_falls_from_all_messages_to_none(self):
        result = drain(maximum_concurrency=50)
        left = [point.messages_left for point in result.curve]

        assert (left[0], left[-1]) == (100_000, 0)
        assert left == sorted(left, reverse=True)
        assert result.curve[-1].seconds == result.seconds
        assert messages_left(result.curve, result.seconds / 2) == pytest.approx(50_000, rel=0.05)

    def test_workers_share_the_messages(self):
        workers = simulate_workers(BURST, Workers(count=10, processes=4), Limits())

        assert workers.seconds == 100_000 / 40 * 0.2

    def test_workers_have_the_same_database_and_provider(self):
        workers = Workers(count=10, processes=4)

        few = simulate_workers(BURST, workers, Limits(database_connections=20))
        slow = simulate_workers(BURST, workers, Limits(tasks_per_second=50.0))

        assert few.seconds == 100_000 / 20 * 0.2
        assert slow.seconds == pytest.approx(2000, rel=0.001)


class TestRefusals:
    def test_a_batch_has_to_end_within_the_time_out(self):
        with pytest.raises(ConfigurationError, match="make the batch smaller"):
            drain(Function(batch_size=10, timeout_seconds=1))

    def test_one_environment_has_to_have_its_connections(self):
        with pytest.raises(ConfigurationError, match="needs 8 database connections"):
            drain(Function(concurrency=8), database_connections=7)

    @pytest.mark.parametrize("values", [(0, 0.2), (1, 0)])
    def test_a_burst_is_something(self, values):
        with pytest.raises(ConfigurationError):
            Burst(*values)

    def test_a_rate_limit_lets_something_through(self):
        with pytest.raises(ConfigurationError):
            Limits(tasks_per_second=0)


class TestCost:
    def test_it_is_the_sum_of_its_items(self):
        limits = Limits(maximum_concurrency=20)
        cost = cost_of(BURST, FUNCTION, limits, simulate(BURST, FUNCTION, limits))

        items = {item.name: (item.amount, item.usd) for item in cost.items}
        assert items == {
            "Lambda requests": (10_000, pytest.approx(0.002)),
            "Lambda GB-seconds": (pytest.approx(10_000), pytest.approx(0.166667)),
            "SQS requests": (120_000, pytest.approx(0.048)),
            "DynamoDB writes": (200_000, pytest.approx(0.125)),
            "DynamoDB reads": (pytest.approx(20_000), pytest.approx(0.0025)),
        }
        assert cost.usd == pytest.approx(sum(usd for _, usd in items.values()))

    def test_concurrency_in_an_environment_makes_it_cheaper(self):
        def usd(concurrency: int) -> float:
            function = Function(concurrency=concurrency)
            return cost_of(BURST, function, Limits(), simulate(BURST, function, Limits())).usd

        assert usd(10) < usd(2) < usd(1)

    def test_what_waits_for_its_turn_is_sent_on_again_and_again(self):
        # Given a burst that the rate limit spreads over a quarter of an hour, and over two hours
        short = drain(burst=Burst(900, 0.1), tasks_per_second=1.0)
        long = drain(burst=Burst(7200, 0.1), tasks_per_second=1.0)
        none = drain(burst=Burst(900, 0.1), tasks_per_second=10_000.0)

        # Then a message is sent on once, or every eleven minutes on average
        assert none.returns == 0
        assert short.returns == pytest.approx(900, rel=0.01)
        assert 5 < long.returns / 7200 < 6

    def test_a_rate_limit_that_is_not_reached_sends_nothing_on(self):
        assert drain(maximum_concurrency=100, tasks_per_second=1000.0).returns == 0

    def test_workers_cost_the_same_every_month(self):
        usd = workers_usd_per_month(Workers(count=2, vcpu=1, memory_gb=2))

        assert usd == pytest.approx(2 * (0.04048 + 2 * 0.004445) * 730)


class TestFigures:
    @pytest.mark.parametrize("name", sorted(figures()))
    def test_each_has_its_source_and_date(self, name):
        each = figures()[name]

        assert each.source.startswith("https://")
        assert date.fromisoformat(each.read)
        assert each.unit
        assert each.what.endswith(".")
        assert figure(name) > 0


class TestCommand:
    def run(self, *options: str) -> Result:
        context = SimpleNamespace(app=Celery("proj"), echo=print)
        return CliRunner().invoke(
            lambda_command, ["plan", "--duration", "0.2", *options], obj=context
        )

    def test_it_prints_both_ways_and_what_limits(self):
        result = self.run(
            "--messages", "100000", "--maximum-concurrency", "20", "--workers", "5",
            "--worker-processes", "2", "--bursts-per-day", "10",
        )  # fmt: skip

        assert result.exit_code == 0, result.output
        lines = [" ".join(line.split()) for line in result.output.splitlines()]
        assert "Lambda 5 workers of 2" in lines
        assert "drained after 16 min 43 s 33 min 20 s" in lines
        assert "tasks at once, at most 20 10" in lines
        assert any("the limit is MaximumConcurrency: raise it" in line for line in lines)
        assert any(line.startswith("a month, 10 a day $") for line in lines)

    def test_a_rate_limit_is_celerys(self):
        result = self.run("--messages", "600", "--rate-limit", "60/m")

        assert "the limit is the rate limit" in result.output

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--rate-limit", "often"], "write it as 100/s"),
            (["--batch-size", "100"], "needs a batch window"),
            (["--maximum-concurrency", "1"], "2<=x<=1000"),
        ],
    )
    def test_a_wish_that_cannot_be_met_is_refused(self, options, sentence):
        result = self.run("--messages", "1000", *options)

        assert result.exit_code != 0
        assert sentence in result.output

    def test_it_draws_a_picture(self, tmp_path):
        path = tmp_path / "plan.png"

        result = self.run("--messages", "1000", "--plot", str(path))

        assert result.exit_code == 0, result.output
        assert path.read_bytes().startswith(b"\x89PNG")

    def test_without_matplotlib_it_says_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

        result = self.run("--messages", "1000", "--plot", str(tmp_path / "plan.png"))

        assert "pip install matplotlib" in result.output
