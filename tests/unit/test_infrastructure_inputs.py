"""The stanza: what is read, what follows from it, and what is refused in a sentence."""

from __future__ import annotations

from dataclasses import fields

import pytest

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.computed import compute
from lambda_celery.infrastructure.inputs import Deployment, QueueInput
from lambda_celery.infrastructure.resources import resources

LAYER = "arn:aws:lambda:eu-central-1:123456789012:layer:binaries:3"
LEAST = {"app": "proj.celery:app", "name": "shop"}


def test_the_least_stanza_has_all_defaults():
    deployment = Deployment.parse(LEAST)
    figures = compute(deployment)

    queue = figures.queues["celery"]
    assert (queue.name, queue.dead_letter_queue_name) == ("shop-celery", "shop-celery-dead-letters")
    assert (queue.visibility_timeout_seconds, queue.window_seconds) == (360, 0)
    assert (queue.max_receive_count, queue.maximum_concurrency) == (5, 10)
    assert figures.record_life_seconds == (4 + 14 + 4 + 1) * 86_400
    assert figures.payload_days == 23 + 13  # in EventBridge Scheduler, before
    assert [each.name for each in figures.functions.values()] == ["shop"]


def test_keyword_arguments_are_checked_as_the_stanza_is():
    with pytest.raises(ConfigurationError, match=r"timeout .* is 901, but must be a whole number"):
        Deployment(**LEAST, timeout=901)
    assert Deployment(**LEAST, queues=["mail"]).queues == {"mail": QueueInput()}


@pytest.mark.parametrize(
    ("batch_size", "window", "timeout"), [(10, 0, 1), (11, 0, 30), (100, 20, 900), (1, 300, 900)]
)
def test_visibility_is_six_timeouts_and_the_window(batch_size, window, timeout):
    queue = compute(
        Deployment(
            **LEAST,
            batch_size=batch_size,
            maximum_batching_window_in_seconds=window,
            timeout=timeout,
        )
    ).queues["celery"]

    assert queue.window_seconds == max(window, 1 if batch_size > 10 else 0)
    assert queue.visibility_timeout_seconds == 6 * timeout + queue.window_seconds <= 43_200


def test_one_function_has_the_timeout_of_its_slowest_queue():
    queues = {"mail": {"timeout": 30}, "report": {"timeout": 600}}
    together = compute(Deployment(**LEAST, queues=queues))
    apart = compute(Deployment(**LEAST, queues=queues, functions="each"))

    assert [each.timeout_seconds for each in together.functions.values()] == [600]
    assert {each.visibility_timeout_seconds for each in together.queues.values()} == {3600}
    assert {n: (f.name, f.timeout_seconds) for n, f in apart.functions.items()} == {
        "mail": ("shop-mail", 30),
        "report": ("shop-report", 600),
    }
    assert apart.queues["mail"].visibility_timeout_seconds == 180


def test_a_fifo_queue_has_small_batches_and_no_window():
    queue = compute(Deployment(**LEAST, batch_size=100, queues={"orders": {"fifo": True}})).queues[
        "orders"
    ]

    assert queue.name == "shop-orders.fifo"
    assert queue.dead_letter_queue_name == "shop-orders-dead-letters.fifo"
    assert (queue.batch_size, queue.window_seconds) == (10, 0)


def test_queues_that_are_there_keep_their_names():
    arn = "arn:aws:sqs:eu-central-1:123456789012:"
    queue = compute(
        Deployment(
            **LEAST,
            queues={"mail": {"queue_arn": arn + "post", "dead_letter_queue_arn": arn + "parked"}},
        )
    ).queues["mail"]

    assert (queue.name, queue.dead_letter_queue_name) == ("post", "parked")


def test_records_outlive_the_longest_retention():
    figures = compute(
        Deployment(
            **LEAST, queues={"a": {}, "b": {"fifo": True, "message_retention_seconds": 1_209_600}}
        )
    )
    assert figures.record_life_seconds == (14 + 14 + 14 + 1) * 86_400


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"memory": 512}, "Did you mean memory_size?"),
        ({"colour": "red"}, "It may have app, name"),
        ({"timeout": True}, "timeout in [tool.lambda-celery] is True, but must be a whole number"),
        ({"timeout": 0}, "from 1 to 900"),
        ({"name": "Shop"}, "a small letter"),
        ({"app": "proj/celery"}, "as after celery -A"),
        ({"runtime": "python3.10"}, "'python3.11' or"),
        ({"max_receive_count": 3}, "from 5 to 1000"),
        ({"maximum_concurrency": 1}, "from 2 to 1000"),
        ({"queues": {"mail": {"fifi": True}}}, "Did you mean fifo?"),
        ({"queues": {"mail": 3}}, "make it a table"),
        ({"queues": []}, "one queue at least"),
        ({"queues": "mail"}, "a list of names"),
        ({"queues": ["a.b", "a:b"]}, "would have the logical id ABQueue"),
        ({"queues": ["mail", "Mail"]}, "the logical id MailQueue"),
        ({"queues": ["new-mail", "new_mail"]}, "the logical id NewMailQueue"),
        ({"queues": ["mail", "mail-dead-letter"]}, "the logical id MailDeadLetterQueue"),
        ({"queues": ["mail", "mail-dead-letters"]}, "be called shop-mail-dead-letters on AWS"),
        ({"queues": ["mail", "mAil"]}, "AWS::SQS::Queue would be called shop-mAil on"),
        ({"queues": ["scheduler"], "functions": "each"}, "IAM::Role would be called shop-sched"),
        (
            {"queues": ["idempotency-read"], "functions": "each"},
            "the logical id IdempotencyReadThrottlesAlarm",
        ),
        ({"queues": ["all"], "functions": "each"}, 'no queue called "all"'),
        ({"queues": ["q" * 50], "name": "n" * 24}, "too long together"),
        ({"queues": {"m": {"fifo": True, "batch_size": 11}}}, "10 messages at most"),
        ({"queues": {"m": {"queue_arn": "arn:aws:sqs:x:123456789012:m"}}}, "dead_letter_queue_arn"),
        ({"queues": {"m": {"dead_letter_queue_arn": "parked"}}}, "the ARN of an SQS queue"),
        (
            {"queues": {"m": {"dead_letter_queue_arn": "arn:aws:sqs:x:123456789012:m.fifo"}}},
            "say fifo = true",
        ),
        (
            {"provisioned_pollers": {"minimum": 2, "maximum": 9}, "maximum_concurrency": 5},
            "exclude each other",
        ),
        ({"provisioned_pollers": {"minimum": 9, "maximum": 8}}, "swap them"),
        ({"provisioned_pollers": {"minimum": 9}}, "Add maximum to"),
        ({"alarm_topic_arn": "arn:aws:sns:x:1:t", "alarm_email": "a@b"}, "exclude each other"),
        ({"alarm_email": "nobody"}, "an e-mail address"),
        ({"layers": [LAYER], "package_type": "image"}, "layers go with"),
        ({"snap_start": True, "package_type": "image"}, "no snapshot of an image"),
        ({"snap_start": True, "runtime": "python3.11"}, '"python3.12" or newer'),
        ({"dlq_message_retention_seconds": 60}, "goes on counting"),
        ({"environment": {"LAMBDA_CELERY_QUEUE_URL": "x"}}, "is computed"),
        ({"environment": {"PORT": 25}}, "put 25 between quotes"),
        ({"parameters": {"P": {"variable": "A"}}}, "the name of an environment variable"),
        ({"parameters": {"a-b": {"variable": "AB"}}}, "letters and digits"),
        ({"environment": {"AB": ""}, "parameters": {"P": {"variable": "AB"}}}, "given twice"),
        ({"vpc": {"subnet_ids": [], "security_group_ids": ["sg-1"]}}, "one subnet"),
        ({"warm_throughput": {"read": 1, "write": 4000}}, "from 12000"),
        ({"log_retention_days": 31}, "1 or 3 or 5"),
        ({"vpc": {"subnet_ids": ["sg-1"], "security_group_ids": ["sg-1"]}}, 'with "subnet-"'),
        ({"layers": [LAYER.removesuffix(":3")]}, "ARNs of layers' versions, 5 at most"),
        ({"tags": ["a"]}, 'a table of texts by names that do not begin with "aws:"'),
        ({"tags": {"AWS:team": "shop"}}, 'do not begin with "aws:"'),
        ({"environment": {"TEXT": "x" * 4000}}, "and Lambda takes 4096: shorten"),
        ({"queues": [f"queue-{n}" for n in range(14)]}, "and Lambda takes 4096: shorten"),
        ({"environment": {"NOT-SO": "x"}}, "'NOT-SO' is none"),
        ({"environment": {"AWS_REGION": "x"}}, "AWS_REGION is Lambda's own"),
        ({"parameters": {"P": {"variable": "AWS_REGION"}}}, "AWS_REGION is Lambda's own"),
        ({"parameters": {"CodeKey": {"variable": "AB"}}}, "CodeKey in parameters has a meaning"),
        ({"parameters": {"version": {"variable": "AB"}}}, "version in parameters has a meaning"),
        ({"parameters": {"CeleryQueue": {"variable": "AB"}}}, "the logical id of a resource"),
        ({"kms_key_arn": "alias/mine"}, "the ARN of a KMS key"),
        ({"kms_key_arn": "arn:aws:kms:x:123456789012:alias/mine"}, 'KMS key, with ":key/"'),
        ({"message_retention_seconds": 1_209_600}, "goes on counting"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(more, sentence):
    with pytest.raises(ConfigurationError) as refusal:
        resources(Deployment.parse(LEAST | more))
    assert sentence in str(refusal.value)
    assert str(refusal.value).endswith((".", "?"))


def test_keys_of_other_commands_are_passed_over():
    assert Deployment.parse(LEAST | {"check": {"ignore": ["x"]}, "form": "sam"}) == Deployment(
        **LEAST
    )


def test_the_runtime_is_the_newest_that_the_project_allows(tmp_path):
    path = tmp_path / "pyproject.toml"
    stanza = '[tool.lambda-celery]\napp = "proj:app"\nname = "shop"\n'
    path.write_text(f'[project]\nrequires-python = ">=3.11,<3.13"\n{stanza}')
    assert Deployment.from_pyproject(path).runtime == "python3.12"
    path.write_text(f'[project]\nrequires-python = ">=3.99"\n{stanza}')
    with pytest.raises(ConfigurationError, match="widen it"):
        Deployment.from_pyproject(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [(None, "There is no"), ("[tool", "cannot be read as TOML"), ("[tool]", "has no \\[tool")],
)
def test_a_file_without_the_stanza_ends_in_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        Deployment.from_pyproject(path)


def test_every_input_says_what_it_becomes():
    for kind in (Deployment, QueueInput):
        assert all(each.metadata["becomes"] for each in fields(kind))
