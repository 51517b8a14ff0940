"""Broker connections across the freeze."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from celery import Celery

from lambda_runtime.running import connections
from lambda_runtime.running.connections import Connections


@pytest.fixture
def app():
    return Celery("proj", broker="memory://", set_as_current=False)


@pytest.mark.parametrize(("idle_seconds", "kept"), [(1, True), (3600, False)])
def test_a_connection_is_kept_unless_it_has_been_idle_for_long(
    app, monkeypatch, idle_seconds, kept
):
    now = [1000.0]
    monkeypatch.setattr(connections.time, "time", lambda: now[0])
    watched = Connections(app)
    with app.pool.acquire() as connection:
        connection.ensure_connection()
    watched.after_batch()
    now[0] += idle_seconds
    watched.before_batch()
    assert connection.connected is kept
    with app.pool.acquire(block=True) as again:
        again.ensure_connection()
        assert (again is connection) is kept


def test_the_pools_of_other_apps_stay_open(app, monkeypatch):
    other = Celery("other", broker="memory://elsewhere", set_as_current=False)
    with other.producer_pool.acquire(block=True), app.pool.acquire(block=True):
        watched = Connections(app)
    monkeypatch.setattr(connections.time, "time", lambda: 1e12)
    watched.before_batch()
    with other.producer_pool.acquire(block=True) as producer:
        producer.connection.ensure_connection()


def test_no_pool_is_made_for_an_app_that_has_not_published(app):
    Connections(app).before_batch()
    assert app._pool is None


def test_django_that_is_imported_but_has_no_settings_is_left_alone():
    """As by sentry's default integrations, in a project without Django."""
    code = """
import django.db
from celery import Celery
from lambda_runtime.running import connections, event_loop

watched = connections.Connections(Celery("proj", set_as_current=False))
watched.before_batch()
watched.after_batch()
connections.close_database_connections()
event_loop.close_database_connections()
"""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
