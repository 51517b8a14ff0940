"""The benchmarks print what the performance page quotes; how much it is, is not tested."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambda_celery.aws import client
from lambda_celery.aws.fast_requests import FastClient
from lambda_celery.conf import Settings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: Those that run tasks.
RUNNING = ("run", "http_calls", "million_calls", "queue_drain", "burst")


def printed_by(name: str, *options: str) -> list[str]:
    """Return the lines that a benchmark prints, with single spaces."""
    made = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    return [" ".join(line.split()) for line in made.stdout.splitlines()]


def matching(lines: list[str], pattern: str) -> list[str]:
    return [line for line in lines if re.fullmatch(pattern, line)]


@pytest.mark.parametrize("name", RUNNING)
def test_the_function_logs_as_it_does_without_a_setting(name: str) -> None:
    help_text = " ".join(printed_by(name, "--help"))

    assert "--loglevel" in help_text
    assert "(default: INFO" in help_text


class TestRun:
    OPTIONS = ("--records", "100", "--runs", "1", "--concurrency", "100", "--seconds", "0.05")

    def test_it_prints_lines_and_ratios(self) -> None:
        lines = printed_by("run", *self.OPTIONS)

        assert matching(lines, r"dispatch alone, WARNING 100 tasks .* and 0\.0 log lines each")
        assert matching(lines, r"dispatch alone, INFO 100 tasks .* and 2\.0 log lines each")
        assert matching(lines, r"does nothing, concurrency 100 100 tasks .* 2\.0 log lines each")
        ratios = lines[lines.index("Ratios, at INFO") + 1 :]
        assert [re.sub(r" [\d.]+$", "", line) for line in ratios] == [
            "dispatch alone, INFO / WARNING, CPU",
            "with the table at 100 / dispatch alone, CPU",
            "waits 50 ms, at 100 / ideal",
        ]

    def test_another_level_is_taken(self) -> None:
        lines = printed_by("run", *self.OPTIONS, "--loglevel", "WARNING")

        assert "Ratios, at WARNING" in lines
        assert not [line for line in lines if "2.0 log lines" in line]


def test_calls_are_compared_with_those_of_the_plain_client() -> None:
    lines = printed_by(
        "http_calls", "--calls", "60", "--at-once", "20", "--ways", "plain asyncio",
        "async def tasks",
    )  # fmt: skip

    assert any(line.endswith("the function logs at INFO") for line in lines)
    assert "seconds calls a second CPU ms a call / plain" in lines
    assert matching(lines, r"plain asyncio [\d.]+ \d+ [\d.]+ 1\.00")
    assert matching(lines, r"async def tasks [\d.]+ \d+ [\d.]+ [\d.]+")


def test_a_task_with_many_calls_is_compared_with_plain_programs() -> None:
    lines = printed_by("million_calls", "--calls", "60", "--at-once", "20", "--runs", "1")

    assert "seconds calls a second CPU ms a call" in lines
    for name in ("plain aiohttp", "our task"):
        assert matching(lines, rf"{name} [\d.]+ [\d.]+-[\d.]+ [\d,]+ [\d.]+")
    has_go = shutil.which("go") is not None
    assert bool(matching(lines, r"Go, one core [\d.]+ .*")) == has_go
    assert ("There is no go on the path: the program in Go is left out." in lines) != has_go


class TestGather:
    OPTIONS = ("--calls", "20", "--connections", "1", "10", "--waits", "0.01", "--runs", "1")
    ROW = r"[\d.]+ [\d.]+-[\d.]+ \d+ \d+"

    def test_more_connections_are_compared_with_fewer(self) -> None:
        lines = printed_by("gather", *self.OPTIONS, "--ways", "gather")

        assert len(matching(lines, f"gather {self.ROW}")) == 2
        assert matching(
            lines,
            r"1,000 calls of 0\.01 s by gather: [\d.]+ s with 1, [\d.]+ s with 10, scaled: "
            r"[\d.]+ x as fast",
        )

    @pytest.mark.skipif(
        not (BENCHMARKS.parent / ".venv-peers" / ".ready").exists(),
        reason="the peer has an environment of its own, which the benchmark downloads",
    )
    def test_it_is_compared_with_the_peer(self) -> None:
        lines = printed_by("gather", *self.OPTIONS)

        assert len(matching(lines, rf"gather {self.ROW} [\d.]+ [\d.]+")) == 2
        assert len(matching(lines, rf"aioboto3 {self.ROW} 1\.00 1\.00")) == 2


class TestTls:
    NAMES = (
        "botocore", "ours", "urllib3, not signed or parsed", "http.client, not signed or parsed",
        "a socket, not signed or parsed", "the same, made for the request",
    )  # fmt: skip

    @pytest.fixture
    def stand_ins(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        import stand_ins

        return stand_ins

    @pytest.fixture
    def certificate(self, stand_ins: Any) -> Iterator[Path]:
        with stand_ins.certificate() as path:
            yield path

    @pytest.fixture
    def sqs(self, stand_ins: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with stand_ins.sqs(0.0, certificate) as url:
            assert url.startswith("https://")
            yield lambda: client("sqs", Settings(endpoint_url=url, region="eu-west-1"))

    def test_who_has_the_certificate_is_answered(self, sqs, certificate, monkeypatch) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        made = sqs()

        assert made.send_message(QueueUrl="q", MessageBody="x")["MessageId"] == "1"
        # And by the request path that is measured.
        assert isinstance(made, FastClient)
        assert made.connections.exchange(
            made.request("SendMessage", {"QueueUrl": "q", "MessageBody": "x"})
        ).body

    def test_who_has_not_is_not(self, sqs, monkeypatch) -> None:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)

        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            sqs().send_message(QueueUrl="q", MessageBody="x")

    def test_it_is_told_what_it_adds_to_a_request(self) -> None:
        lines = printed_by("one_request", "--tls", "--requests", "5", "--runs", "1")

        columns = "fastest-slowest / ours"
        assert f"CPU µs {columns} by TLS {columns} adds" in lines
        row = r" \d+ \d+-\d+ [\d.]+ \d+ \d+-\d+ [\d.]+ -?\d+"
        assert [name for name in self.NAMES if matching(lines, re.escape(name) + row)] == [
            *self.NAMES
        ]

    def test_and_without_it_nothing_is(self) -> None:
        lines = printed_by("one_request", "--requests", "5", "--runs", "1")

        assert "CPU µs fastest-slowest / ours" in lines

    def test_it_is_told_what_it_adds_to_a_task(self) -> None:
        lines = printed_by("enqueue", "--tls", "--tasks", "200", "--runs", "1")

        assert any(
            line.startswith("TLS seconds") and line.endswith("TLS adds µs") for line in lines
        )
        assert len(matching(lines, r"delay_many\(\) [\d.]+ [\d.-]+ \d+ [\d.]+ -?\d+")) == 1
        ratio = r"delay_many\(\) / its messages, sent by hand, CPU: [\d.]+"
        assert len(matching(lines, ratio)) == 2
