"""The tasks that the mail back end brings along."""

from __future__ import annotations

import pytest
from celery import Celery

import tests.django_settings  # noqa: F401 - before what reads them
from lambda_celery.celery_hooks.apps import is_nobodys
from lambda_celery.django.mail import tasks


def mine() -> None:
    """What a project's task does."""


@pytest.mark.parametrize("task", [tasks.deliver, tasks.send_emails], ids=["ours", "celery-email"])
def test_they_are_none_of_the_projects_own(task):
    """Whatever their names: no command lists, grades or limits them."""
    app = Celery(set_as_current=False)

    assert is_nobodys(task)
    assert is_nobodys(app.tasks["celery.chord"])
    assert not is_nobodys(app.task(name="djcelery_email_of_mine", shared=False)(mine))
