"""The site on loopback: what it answers to a browser, and to other sites in that browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import httpx
import pytest
from celery import Celery

from lambda_celery.dashboard import server
from lambda_celery.dashboard.answers import Answers
from lambda_celery.dashboard.server import serving
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.status.attempts import Attempts
from lambda_celery.status.figures import Status
from tests.functional.dashboard.figures import Figures, idle


@contextmanager
def site(*, allow_retry: bool = False) -> Iterator[httpx.Client]:
    served = serving(Celery("shop"), Figures(), port=0, allow_retry=allow_retry)
    with served as url, httpx.Client(base_url=url) as client:
        yield client


def token(client: httpx.Client) -> str:
    return client.get("/").text.partition('data-token="')[2].partition('"')[0]


def test_the_page_its_files_and_its_figures_are_served():
    with site() as client:
        page = client.get("/")
        paths = [each.partition('"')[0] for each in page.text.split('src="')[1:]]
        assert len(paths) == 8
        for path in paths:
            assert client.get(path).headers["Content-Type"].startswith("text/javascript")
        assert client.get("/api/status").json()["queues"][0]["name"] == "mail"
        attempts = client.get("/api/attempts/a%2Fb").json()["attempts"]
        assert [each["end"] for each in attempts][:2] == ["succeeded", "retried"]


def test_while_one_looks_the_others_have_what_was_seen_before(monkeypatch):
    # Given
    monkeypatch.setattr("lambda_celery.dashboard.answers._LOOK_SECONDS", 0)
    monkeypatch.setattr("lambda_celery.dashboard.answers._WORTH", 0)
    source = Figures()
    answers = Answers(Celery("shop"), source)
    before = answers.status()
    asked, may_answer = threading.Event(), threading.Event()

    def hang() -> Status:
        asked.set()
        may_answer.wait(60)
        return idle()

    monkeypatch.setattr(source, "status", hang)

    # When
    with ThreadPoolExecutor() as executor:
        looks = executor.submit(answers.status)
        assert asked.wait(60)
        meanwhile = answers.status()
        may_answer.set()

    # Then
    assert meanwhile == before
    assert looks.result() == idle().as_json()


def test_of_the_attempts_of_a_large_canvas_the_latest_are_shown(monkeypatch):
    monkeypatch.setattr("lambda_celery.dashboard.answers.ATTEMPTS", 2)
    with site() as client:
        said = client.get("/api/attempts/a").json()
    assert [each["task"] for each in said["attempts"]] == ["shop.charge_card", "shop.send_mail"]
    assert said["left_out"] == ["There are 3 more, before these."]


def test_half_of_a_character_is_no_reason_to_show_nothing(monkeypatch):
    # The attempts of what a sender has named so are shown as they are.
    half = "\ud800"
    told = replace(Figures().attempts("a"), left_out=(f"No attempt of the task {half}.",))
    monkeypatch.setattr(Figures, "attempts", lambda *_: told)
    with site() as client:
        assert client.get("/api/attempts/a").json()["left_out"] == list(told.left_out)


def test_nothing_of_the_page_may_come_from_elsewhere():
    with site() as client:
        policy = client.get("/").headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        refused = client.get("/", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_a_name_that_somebody_else_has_pointed_here_is_refused(host):
    with site() as client:
        assert client.get("/api/status", headers={"Host": host}).status_code == 400


def test_a_page_that_only_reads_has_no_way_to_send_back():
    with site() as client:
        assert token(client) == ""
        # Even an empty token is none.
        origin = str(client.base_url).rstrip("/")
        given = {"Origin": origin, "X-Lambda-Celery-Token": ""}
        answer = client.post("/api/failed/retry", json={"ids": ["a"]}, headers=given)
        assert answer.status_code == 405


def test_what_does_not_come_from_the_page_changes_nothing():
    with site(allow_retry=True) as client:
        origin = str(client.base_url).rstrip("/")
        right = {"Origin": origin, "X-Lambda-Celery-Token": token(client)}
        wrong = [
            {},
            {"Origin": origin},
            {**right, "Origin": "https://evil.example"},
            {**right, "X-Lambda-Celery-Token": "é"},
            {"X-Lambda-Celery-Token": token(client)},
        ]
        for headers in wrong:
            encoded = {name: value.encode() for name, value in headers.items()}
            answer = client.post("/api/failed/discard", json={"ids": ["a"]}, headers=encoded)
            assert answer.status_code == 403, headers
        for body in (b"", b"[]", b'{"ids": "a"}', b'{"ids": [1]}', b"[" * 100_000):
            answer = client.post("/api/failed/discard", content=body, headers=right)
            assert answer.status_code == 400, body
        refused = client.post("/api/failed/discard", json={"ids": ["a"]}, headers=right)
        assert refused.status_code == 503
        assert "Set lambda_idempotency_table" in refused.json()["error"]


def test_a_port_that_is_taken_is_told_in_a_sentence():
    with site() as client:
        again = serving(Celery("shop"), Figures(), port=client.base_url.port)
        with pytest.raises(LambdaCeleryError, match="is taken by another program"), again:
            pass


def test_a_port_that_there_is_not_is_told_in_a_sentence():
    after_the_last = serving(Celery("shop"), Figures(), port=65536)
    with pytest.raises(LambdaCeleryError, match="There is no port 65536"), after_the_last:
        pass


def test_it_ends_without_a_stack_while_aws_is_slow(monkeypatch, caplog):
    # Given
    asked, may_answer = threading.Event(), threading.Event()

    def hang(*_: object) -> Attempts:
        asked.set()
        may_answer.wait(60)
        return Attempts()

    monkeypatch.setattr(Figures, "attempts", hang)
    monkeypatch.setattr(server, "_GRACE_SECONDS", 0)

    # When
    with ThreadPoolExecutor() as executor:
        with site() as client:
            answer = executor.submit(httpx.get, f"{client.base_url}api/attempts/a", timeout=60)
            assert asked.wait(60)
        may_answer.set()
        with suppress(httpx.HTTPError):  # a connection that is cut off, or a refusal
            answer.result()

    # Then
    assert caplog.records == []
