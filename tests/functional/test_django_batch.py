"""Messages that wait for Django's transaction."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import django
from django.conf import settings

settings.configure(
    DATABASES={
        name: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        for name in ("default", "other")
    },
    INSTALLED_APPS=["lambda_celery.django"],
)
django.setup()

from celery import Celery
from django.db import transaction
import lambda_celery
from lambda_celery.django import batch_on_commit

app = Celery("proj", broker="amqp://guest@127.0.0.1:1//")
app.conf.lambda_tasks = ["*"]
lambda_celery.install(app)


@app.task(bind=True)
def send(self):
    pass


class RolledBack(Exception):
    pass


def depth():
    from lambda_celery import aws
    from lambda_celery.conf import settings_of

    names = ["ApproximateNumberOfMessages"]
    own = settings_of(app)
    answer = aws.client("sqs", own).get_queue_attributes(
        QueueUrl=own.queue_url, AttributeNames=names
    )
    return int(answer["Attributes"][names[0]])


def at_commit():
    with transaction.atomic():
        with batch_on_commit(on_dropped=print):
            send.delay()
            send.delay()
        assert depth() == 0
    assert depth() == 2


def at_rollback():
    sent, dropped = [], []
    try:
        with transaction.atomic(), batch_on_commit(on_dropped=dropped.extend):
            sent.append(send.delay().id)
            raise RolledBack
    except RolledBack:
        pass
    assert dropped == sent
    try:
        with transaction.atomic():
            with batch_on_commit(on_dropped=dropped.extend):
                sent.append(send.delay().id)
            assert len(dropped) == 1
            raise RolledBack
    except RolledBack:
        pass
    assert dropped == sent
    assert depth() == 0


def outside_of_a_transaction():
    with batch_on_commit():
        send.delay()
        assert depth() == 0
    assert depth() == 1


def of_another_database():
    with transaction.atomic(using="other"):
        with transaction.atomic(), batch_on_commit(using="other"):
            send.delay()
        assert depth() == 0
    assert depth() == 1


def within_a_batch():
    with lambda_celery.batch():
        with transaction.atomic(), batch_on_commit():
            send.delay()
        assert depth() == 0
    assert depth() == 1

"""


@pytest.mark.parametrize(
    "case",
    [
        "at_commit",
        "at_rollback",
        "of_another_database",
        "outside_of_a_transaction",
        "within_a_batch",
    ],
)
def test_a_batch_on_commit_is_sent(stack, tmp_path, case):
    done = subprocess.run(
        [sys.executable, "-c", f"{SCRIPT}\n{case}()"],
        env=stack.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
