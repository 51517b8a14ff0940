"""What a task was declared with is not what Celery adds when it binds the task."""

from __future__ import annotations

import pytest
from celery import Celery, Task, shared_task

from lambda_celery import install
from lambda_celery.celery_hooks.declared import declared, note_declared

OPTION = "acks_on_failure_or_timeout"


@pytest.fixture
def app():
    made = Celery("declared", set_as_current=False)
    install(made)
    return made


def test_what_a_decorator_was_given_is_declared(app):
    @app.task(shared=False, acks_on_failure_or_timeout=True)
    def mail():
        pass

    assert declared(app.tasks[mail.name], OPTION) is True


def test_celerys_default_is_not_declared_although_the_class_has_it(app):
    @app.task(shared=False)
    def mail():
        pass

    task = app.tasks[mail.name]
    assert getattr(task, OPTION) is True
    assert declared(task, OPTION) is None


def test_the_apps_own_default_is_not_declared(app):
    app.conf.task_acks_on_failure_or_timeout = True

    @app.task(shared=False)
    def mail():
        pass

    assert declared(app.tasks[mail.name], OPTION) is None


def test_a_base_class_declares_it_for_its_tasks_unless_they_say_otherwise(app):
    class Base(Task):
        acks_on_failure_or_timeout = True

    @app.task(shared=False, base=Base)
    def mail():
        pass

    @app.task(shared=False, base=Base, acks_on_failure_or_timeout=False)
    def order():
        pass

    assert declared(app.tasks[mail.name], OPTION) is True
    assert declared(app.tasks[order.name], OPTION) is False


def test_a_class_that_derives_from_a_bound_one_does_not_declare_what_binding_added(app):
    class Mail(app.Task):
        name = "mail"

    app.register_task(Mail())

    class SpecialMail(Mail):
        name = "special_mail"

    app.register_task(SpecialMail())

    assert getattr(app.tasks["special_mail"], OPTION) is True
    assert declared(app.tasks["special_mail"], OPTION) is None


def test_a_class_that_is_registered_declares_its_attributes(app):
    class Mail(app.Task):
        name = "mail"
        acks_on_failure_or_timeout = True

    app.register_task(Mail())

    assert declared(app.tasks["mail"], OPTION) is True


def test_a_shared_task_declares_it_for_every_app():
    @shared_task(name="test_declared.shared", acks_on_failure_or_timeout=True)
    def mail():
        pass

    for name in ("one", "two"):
        app = Celery(name, set_as_current=False)
        install(app)
        assert declared(app.tasks["test_declared.shared"], OPTION) is True


def test_a_class_that_was_bound_before_it_is_seen_declares_nothing(app):
    class Mail(Task):
        name = "mail"
        acks_on_failure_or_timeout = True

    Mail.bind(app)
    note_declared(Mail())

    # Nobody knows any more: its failure is parked, which loses nothing.
    assert declared(Mail(), OPTION) is None
