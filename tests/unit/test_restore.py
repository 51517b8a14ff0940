"""What a process that is restored from a snapshot signs with, and what it has closed."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from lambda_celery import aws
from lambda_celery.conf import Settings


class Credentials(http.server.BaseHTTPRequestHandler):
    """Those of a container, as Lambda hands them out with SnapStart: other ones at each request."""

    count = 0

    def do_GET(self) -> None:
        type(self).count += 1
        # Less than ten minutes ahead, from which on botocore uses no others than new ones.
        ends = datetime.now(UTC) + timedelta(minutes=5)
        told = {
            "AccessKeyId": f"KEY{self.count}",
            "SecretAccessKey": "secret",
            "Token": f"token{self.count}",
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setattr("lambda_celery.aws.clients._clients", {})
    monkeypatch.setattr(Credentials, "count", 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Credentials)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/"
    )
    yield
    server.shutdown()
    server.server_close()


def test_a_client_that_was_made_before_signs_with_the_credentials_of_now(credentials):
    client = aws.client("sqs", Settings(region="eu-west-1"))
    before = client.request("SendMessage", {})
    aws.close_connections()  # as before the snapshot, and after the restore
    after = client.request("SendMessage", {})

    assert before.count(b"KEY") == after.count(b"KEY") == 1
    keys = [each.partition(b"Credential=")[2].partition(b"/")[0] for each in (before, after)]
    assert keys[0] != keys[1]
    token = b"X-Amz-Security-Token: token" + keys[1].removeprefix(b"KEY")
    assert token in after


def test_django_has_no_connection_left_and_makes_others(tmp_path):
    code = """
from django.conf import settings
database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "{file}"}
settings.configure(DATABASES={"default": database})
import django; django.setup()
from celery import Celery
from django.core.cache import cache
from django.db import connection
from lambda_runtime.running.connections import Connections
connection.ensure_connection(); cache.set("a", 1)
Connections(Celery(set_as_current=False)).close()
assert connection.connection is None
with connection.cursor() as cursor:
    assert cursor.execute("SELECT 1").fetchone() == (1,)
assert cache.get("a") == 1
print("well")
"""
    result = subprocess.run(
        [sys.executable, "-c", code.replace("{file}", str(tmp_path / "db"))],
        capture_output=True,
        text=True,
    )
    assert result.stdout == "well\n", result.stderr
