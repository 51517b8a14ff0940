"""The simulation behind ``celery -A proj lambda plan``."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from lambda_celery.cli import lambda_command
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.cost import cost_of, pollers_usd_per_month, workers_usd_per_month
from lambda_celery.plan.drain import Drain
from lambda_celery.plan.figures import figure, figures
from lambda_celery.plan.limits import Limit, Limits, Pollers
from lambda_celery.plan.model import RUNTIME_CPU_SECONDS, Burst, Function, Workers
from lambda_celery.plan.report import make_plan, what_limits
from lambda_celery.plan.simulation import (
    PATIENCE_SECONDS,
    SCHEDULE_LEAD_SECONDS,
    messages_left,
    simulate,
    simulate_workers,
)
from lambda_celery.schedules import one_time
from lambda_celery.table import rate_limits as rate_limit

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
            ({"pollers": Pollers(2, 3)}, Limit.POLLERS),
            ({"table_writes_per_second": 200.0}, Limit.TABLE_WRITES),
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
            {"pollers": Pollers(2, 20), "table_writes_per_second": 500.0},
        ],
    )
    def test_the_limits_share_the_whole_time(self, limits):
        result = drain(Function(batch_size=15, batch_window_seconds=3), **limits)

        assert sum(result.limited_seconds.values()) == pytest.approx(result.seconds)


def advice(burst: Burst, function: Function, **limits: Any) -> list[str]:
    return list(what_limits(make_plan(burst, function, Limits(**limits), Workers())))


class TestInvocationsOfAnEnvironment:
    """Ten a second at most, however short they are."""

    SHORT = Burst(10_000, 0.02)

    def of_one(self, batch_size: int, burst: Burst = SHORT) -> Drain:
        function = Function(batch_size=batch_size, cold_start_seconds=0)
        return drain(function, burst, account_concurrency=1)

    def test_they_cap_short_batches(self):
        result = self.of_one(1)

        assert result.seconds == pytest.approx(10_000 / 10, rel=0.001)
        assert result.main_limit is Limit.INVOCATION_RATE

    def test_a_tenth_of_a_second_is_long_enough(self):
        result = self.of_one(5)

        assert result.seconds == pytest.approx(10_000 * 0.02)
        assert result.main_limit is Limit.ACCOUNT_CONCURRENCY

    def test_the_environment_is_billed_for_what_it_works(self):
        assert self.of_one(1).billed_seconds == pytest.approx(10_000 * 0.02)

    def test_the_report_says_what_to_do(self):
        function = Function(batch_size=1, cold_start_seconds=0)

        (sentence,) = advice(self.SHORT, function, maximum_concurrency=2)

        assert "the limit is invocations a second in each environment" in sentence
        assert "10 times a second at most, and a batch takes 0.02 s" in sentence
        assert "make the batches larger (--batch-size), so that one takes 0.1 s or more" in sentence


class TestTheTable:
    """Two writes a task, and so many a second."""

    FAST = Function(concurrency=10, memory_mb=1769, cold_start_seconds=0)
    BURST = Burst(200_000, 0.1)

    def test_a_new_one_takes_the_writes_of_two_thousand_tasks_a_second(self):
        result = drain(self.FAST, self.BURST, maximum_concurrency=200, ramp_per_second=100)

        assert result.seconds == pytest.approx(200_000 / 2000, rel=0.02)
        assert result.main_limit is Limit.TABLE_WRITES

    def test_a_warm_one_takes_more(self):
        result = drain(
            self.FAST, self.BURST, maximum_concurrency=200, ramp_per_second=100,
            table_writes_per_second=40_000,
        )  # fmt: skip

        assert result.seconds < 30
        assert Limit.TABLE_WRITES not in result.limited_seconds

    def test_a_second_s_worth_goes_at_once(self):
        result = drain(self.FAST, Burst(2000, 0.1), initial_concurrency=200)

        assert result.limited_seconds == {Limit.LAST_BATCHES: pytest.approx(0.1)}

    def test_a_token_is_a_third_write(self):
        assert Limits(tasks_per_second=1.0).writes_per_task == 3

    def test_the_report_says_what_to_do(self):
        (sentence,) = advice(
            self.BURST, self.FAST, maximum_concurrency=200, initial_concurrency=200
        )

        assert "the limit is writes to the idempotency table" in sentence
        assert "4,000 a second, and a task writes 2 times" in sentence
        assert "raise its WarmThroughput before the burst (--table-writes)" in sentence


class TestPollers:
    """The provisioned mode of an event source mapping."""

    WARM = MappingProxyType({"table_writes_per_second": 1e6, "account_concurrency": 10_000})

    def drained(self, pollers: Pollers, burst: Burst = BURST, batch_size: int = 10) -> Drain:
        function = Function(batch_size=batch_size, cold_start_seconds=0)
        return drain(function, burst, pollers=pollers, **self.WARM)

    def test_each_runs_ten_invocations_at_a_time(self):
        result = self.drained(Pollers(2, 4))

        assert result.environments == 40
        assert result.main_limit is Limit.POLLERS

    def test_the_minimum_is_there_at_once_and_the_rest_comes_quickly(self):
        pollers = Pollers(20, 100)

        opens = [pollers.opens_at(n) for n in (0, 199, 200, 299)]
        assert opens == [0, 0, pytest.approx(0.06), pytest.approx(6)]

    def test_lambda_adds_a_thousand_environments_in_ten_seconds(self):
        pollers = Pollers(200, 2000)

        assert [pollers.opens_at(n) for n in (999, 1099, 1999)] == [0, 1, 10]

    def test_each_receives_ten_times_a_second(self):
        # Given batches that are over before their poller has received the next ones
        result = self.drained(Pollers(2, 2), Burst(100_000, 0.001))

        assert result.seconds == pytest.approx(100_000 / (2 * 10 * 10), rel=0.01)
        assert result.main_limit is Limit.POLLERS

    def test_each_takes_a_megabyte_a_second(self):
        result = self.drained(Pollers(2, 2), Burst(10_000, 0.2, message_bytes=100_000))

        assert result.seconds == pytest.approx(10_000 / (2 * 10), rel=0.01)
        assert result.main_limit is Limit.POLLERS

    def test_more_of_them_are_never_slower(self):
        times = [self.drained(Pollers(2, n)).seconds for n in (2, 5, 20, 100)]

        assert times == sorted(times, reverse=True)
        assert times[-1] < drain(**self.WARM).seconds  # the standard mode's

    def test_they_take_the_place_of_maximum_concurrency(self):
        with pytest.raises(ConfigurationError, match="leave one of them out"):
            Limits(pollers=Pollers(), maximum_concurrency=10)

    def test_the_minimum_is_not_above_the_maximum(self):
        with pytest.raises(ConfigurationError, match="5 pollers at least, but 3 at most"):
            Pollers(5, 3)

    def test_the_report_says_what_to_do(self):
        sentences = advice(BURST, FUNCTION, pollers=Pollers(2, 2))

        assert "the limit is the event source mapping's pollers" in sentences[0]
        assert "10 invocations at a time, receives 10 times a second and takes 1 MB" in sentences[0]
        assert "--maximum-pollers" in sentences[0]

    def test_where_the_ramp_is_the_limit_more_are_to_be_kept(self):
        sentences = advice(BURST, FUNCTION, pollers=Pollers(2, 200), **self.WARM)

        assert "the event source mapping's ramp" in sentences[0]
        assert "keep more pollers (--minimum-pollers)" in sentences[0]

    def test_those_that_are_always_there_cost_the_same_every_month(self):
        assert pollers_usd_per_month(Limits(pollers=Pollers(10, 20))) == pytest.approx(
            10 * 0.00925 * 730
        )
        assert pollers_usd_per_month(Limits()) == 0

    def test_the_others_cost_what_the_burst_needs(self):
        limits = Limits(pollers=Pollers(2, 4), **self.WARM)
        result = simulate(BURST, FUNCTION, limits)

        items = {item.name: item for item in cost_of(BURST, FUNCTION, limits, result).items}

        hours = 2 * result.seconds / 3600
        assert items["Poller hours"].amount == pytest.approx(hours)
        assert items["Poller hours"].usd == pytest.approx(hours * 0.00925)


class TestScheduler:
    """EventBridge Scheduler puts a thousand messages a second on the queue."""

    WIDE = MappingProxyType({"table_writes_per_second": 1e6, "initial_concurrency": 1000})

    def drained(self, messages: int) -> Drain:
        return drain(burst=Burst(messages, 0.2, is_scheduled=True), **self.WIDE)

    def test_what_is_fired_before_it_is_due_is_in_time(self):
        assert Limit.SCHEDULER not in self.drained(60_000).limited_seconds

    def test_the_rest_is_late(self):
        result = self.drained(300_000)

        assert result.seconds == pytest.approx(240 + 2, abs=0.1)
        assert result.main_limit is Limit.SCHEDULER

    def test_a_schedule_is_made_as_much_earlier_as_the_plan_has_it(self):
        assert one_time._PRECISION.total_seconds() == SCHEDULE_LEAD_SECONDS

    def test_the_report_says_what_to_do(self):
        (sentence,) = advice(Burst(300_000, 0.2, is_scheduled=True), FUNCTION, **self.WIDE)

        assert "the limit is EventBridge Scheduler: it puts 1,000 messages a second" in sentence
        assert "spread their ETA over more minutes, or ask AWS for a higher quota" in sentence

    def test_each_schedule_costs(self):
        burst = Burst(1_000_000, 0.2, is_scheduled=True)
        limits = Limits(maximum_concurrency=500)

        items = cost_of(burst, FUNCTION, limits, simulate(burst, FUNCTION, limits)).items

        assert (items[-1].name, items[-1].usd) == ("Schedules", pytest.approx(1.0))


class TestCpu:
    """A process has one vCPU at most, and less with less memory."""

    def of_one(self, memory_mb: int, burst: Burst, concurrency: int = 10) -> Drain:
        function = Function(
            memory_mb=memory_mb, concurrency=concurrency, cold_start_seconds=0, timeout_seconds=900
        )
        return drain(function, burst, account_concurrency=1)

    @pytest.mark.parametrize(("memory_mb", "vcpus"), [(1769, 1), (884.5, 0.5), (10_240, 1)])
    def test_it_comes_with_the_memory(self, memory_mb, vcpus):
        burst = Burst(1000, 0.2, cpu_seconds=0.2)

        result = self.of_one(memory_mb, burst)

        assert result.seconds == pytest.approx(1000 * (0.2 + RUNTIME_CPU_SECONDS) / vcpus)
        assert result.main_limit is Limit.CPU

    def test_the_runtime_has_its_share(self):
        # Given a thousand tasks at a time that only wait
        function = Function(
            batch_size=10_000, batch_window_seconds=1, concurrency=1000, memory_mb=1769
        )

        assert function.batch_seconds(10_000, Burst(10_000, 0.1)) == pytest.approx(
            10_000 * RUNTIME_CPU_SECONDS
        )

    def test_tasks_that_wait_are_not_limited_by_it(self):
        assert Limit.CPU not in self.of_one(512, Burst(1000, 0.2)).limited_seconds

    def test_workers_share_theirs(self):
        burst = Burst(1000, 0.2, cpu_seconds=0.2)

        result = simulate_workers(burst, Workers(count=2, processes=4, vcpu=1), Limits())

        assert result.seconds == pytest.approx(1000 * 0.2 / 2)

    def test_the_report_says_how_many_tasks_it_does(self):
        burst = Burst(1000, 0.2, cpu_seconds=0.2 - RUNTIME_CPU_SECONDS)

        (less,) = advice(burst, Function(memory_mb=512), account_concurrency=1)
        (whole,) = advice(burst, Function(memory_mb=1769, concurrency=10), account_concurrency=1)

        assert "512 MB are 0.29 vCPU, and a process does 1.45 of these tasks a second" in less
        assert "more memory (--memory), up to 1,769 MB, which are a whole vCPU" in less
        assert "1,769 MB are 1 vCPU, and a process does 5 of these tasks a second" in whole
        assert "more environments" in whole

    def test_a_batch_that_it_makes_too_long_is_refused(self):
        with pytest.raises(ConfigurationError, match="the memory, and the CPU with it, larger"):
            drain(Function(concurrency=10), Burst(10, 0.1, cpu_seconds=2))


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


class TestPage:
    PAGE = (Path(__file__).parents[2] / "docs" / "planning.md").read_text()

    @pytest.mark.parametrize("limit", Limit)
    def test_it_has_each_limit(self, limit):
        assert f"\n| {limit.value} |" in self.PAGE

    def test_its_example_is_what_the_command_prints(self):
        before, output, _ = self.PAGE.split("```", 2)
        _, _, command = before.rpartition("celery -A proj lambda ")

        result = planned(shlex.split(command.replace("\\\n", " ")))

        assert result.output.splitlines() == output.splitlines()[1:]


def planned(arguments: list[str]) -> Result:
    context = SimpleNamespace(app=Celery("proj"), echo=print)
    return CliRunner().invoke(lambda_command, arguments, obj=context)


class TestCommand:
    def run(self, *options: str) -> Result:
        return planned(["plan", "--duration", "0.2", *options])

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
        ("options", "line"),
        [
            (["--batch-size", "1", "--duration", "0.02"], "invocations a second in each"),
            (["--table-writes", "20"], "writes to the idempotency table"),
            (["--minimum-pollers", "2", "--maximum-pollers", "2"], "mapping's pollers"),
            (["--maximum-pollers", "2"], "mapping's pollers"),
            (["--message-size", "500000", "--minimum-pollers", "3"], "mapping's pollers"),
            (["--messages", "300000", "--scheduled", "-c", "10"], "EventBridge Scheduler"),
            (["--cpu", "0.2"], "the CPU of each environment"),
        ],
    )
    def test_each_wish_is_planned_for(self, options, line):
        result = self.run("--messages", "2000", *options)

        assert result.exit_code == 0, result.output
        assert line in result.output.partition("What a burst costs")[0]

    def test_a_limit_that_matters_has_a_sentence_and_another_has_none(self):
        result = self.run("--messages", "100000", "--maximum-concurrency", "40")

        sentences = [line for line in result.output.splitlines() if line.startswith("For ")]
        assert len(sentences) == 1
        result = self.run("--messages", "10000", "--maximum-concurrency", "40")
        sentences = [line for line in result.output.splitlines() if line.startswith("For ")]
        assert len(sentences) == 2
        assert "MaximumConcurrency" in sentences[0]
        assert "ramp" in sentences[1]

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--minimum-pollers", "2", "--maximum-concurrency", "5"], "leave one of them out"),
            (["--minimum-pollers", "1"], "2<=x<=200"),
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
