"""How long a run may take is learnt, and forgotten."""

from lambda_runtime.running.run_times import RunTimes


def test_what_has_not_run_may_start_at_any_time():
    assert RunTimes().expected_seconds("mail") == 0


def test_a_longer_run_counts_at_once():
    times = RunTimes()
    times.note("mail", 0.1)
    times.note("mail", 3.0)
    assert times.expected_seconds("mail") == 3.0
    assert times.expected_seconds("order") == 0


def test_one_outlier_is_forgotten_by_shorter_runs():
    times = RunTimes()
    times.note("mail", 3.0)
    for _ in range(40):
        times.note("mail", 0.1)
    assert times.expected_seconds("mail") < 0.2
