"""The pytest plugin, in the runs of other projects' tests."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TASKS = """
import pytest
from celery import Celery, shared_task
import lambda_celery

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")

@lambda_celery.task(name="send")
def send(number): ...
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the tests in a process of their own, which finds the plugin by its entry point."""
    return pytester.runpytest_subprocess("-p", "no:randomly", *arguments)


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave neither credentials nor a region to be found."""
    for name in (
        "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def test_without_the_fixture_nothing_is_loaded(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            loaded = {"boto3", "celery", "django", "kombu", "lambda_runtime"} & set(sys.modules)
            assert not loaded, loaded
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_each_test_has_a_queue_of_its_own_in_each_process(pytester):
    pytester.makepyfile(
        TASKS
        + """
@pytest.mark.parametrize("number", range(6))
def test_one(lambda_celery_queue, number):
    assert lambda_celery_queue.messages == []
    send.delay(number)
    send.delay(number)
    lambda_celery_queue.assert_enqueued(send, args=[number], times=2)
    assert lambda_celery_queue.run_once().end == "succeeded"
"""
    )
    run(pytester, "-n", "2").assert_outcomes(passed=6)


def test_a_failing_assertion_shows_what_is_enqueued(pytester):
    pytester.makepyfile(
        TASKS
        + """
def test_one(lambda_celery_queue):
    send.apply_async((1,), queue="mail", countdown=60)
    lambda_celery_queue.assert_enqueued(send, args=[2], queue="mail")
"""
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*send is not enqueued with args=[[]2], queue='mail'. On the queues:",
            "E*send(1) on queue 'mail', countdown 60 s, due in 60 s",
        ]
    )


def test_a_project_chooses_the_app_and_the_options(pytester):
    pytester.makeconftest(
        """
        import pytest
        from celery import Celery

        @pytest.fixture
        def lambda_celery_app():
            app = Celery("other", broker="memory://", set_as_current=False)
            app.conf.lambda_queues = {"mail": "https://sqs.eu-west-1.amazonaws.com/1/mail"}
            return app

        @pytest.fixture
        def lambda_celery_options():
            return {"max_receive_count": 1}
        """
    )
    pytester.makepyfile(
        """
        import lambda_celery

        def test_one(lambda_celery_queue, lambda_celery_app, caplog):
            lambda_celery.install(lambda_celery_app)

            @lambda_celery_app.task(name="fail", shared=False, lambda_celery=True, queue="mail")
            def fail():
                raise ValueError("as ever")

            fail.delay()
            [outcome] = lambda_celery_queue.run()
            assert outcome.fate == "parked"
            assert outcome.message.queue_url == "https://sqs.eu-west-1.amazonaws.com/1/mail"
            assert "as ever" in caplog.text
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_missing_extra_is_told_in_a_sentence(pytester):
    pytester.makeconftest("import sys\nsys.modules['aws_lambda_powertools'] = None\n")
    pytester.makepyfile("def test_one(lambda_celery_queue): ...")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*pip install 'lambda-celery[[]testing]'."])
