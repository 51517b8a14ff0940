"""A shop whose page a real browser shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from playwright.sync_api import Browser, Page, expect, sync_playwright

import lambda_celery
from lambda_celery.dashboard.server import serving
from lambda_celery.failures import FailedTasks, Failure
from tests.functional.conftest import Stack
from tests.functional.dashboard.figures import NOW, Figures

_LIFE_SECONDS = 3600
#: The machine may be busy.
_PATIENCE_MILLISECONDS = 60_000
_TRACEBACK = """\
Traceback (most recent call last):
  File "/var/task/shop/tasks.py", line 41, in charge_card
    receipt = gateway.charge(order.card, order.total)
  File "/var/task/shop/gateway.py", line 17, in charge
    raise ConnectTimeout("gateway.example did not answer within 5 s")
shop.gateway.ConnectTimeout: gateway.example did not answer within 5 s
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window. It ends with the module: its loop is in our thread."""
    binary = shutil.which("chromium")
    if binary is None:
        sentence = "There is no chromium on this machine: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=binary)
        expect.set_options(timeout=_PATIENCE_MILLISECONDS)
        yield launched
        launched.close()


@dataclass
class Visit:
    """A page that is watched: what it asks for, and what it complains of."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda each: self.asked.append(each.url))
        self.page.on("pageerror", lambda each: self.complaints.append(str(each)))
        self.page.on(
            "console",
            lambda each: self.complaints.append(each.text) if each.type == "error" else None,
        )

    def text(self, selector: str) -> str:
        """Return the text of one element."""
        return self.page.inner_text(selector)

    def picture(self, name: str, *, within: str = "html") -> None:
        """Write a picture for the docs, if somebody wants them: see the Makefile."""
        if folder := os.environ.get("LAMBDA_CELERY_SCREENSHOTS"):
            path = Path(folder) / f"dashboard-{name}.png"
            self.page.locator(within).screenshot(path=path, animations="disabled")


Visiting = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visiting]:
    """Open a URL in a profile of its own."""
    with ExitStack() as exit_stack:

        def open_page(url: str, **options: Any) -> Visit:
            options = {
                "viewport": {"width": 1280, "height": 900},
                "timezone_id": "UTC",
                "reduced_motion": "reduce",
            } | options
            context = exit_stack.enter_context(browser.new_context(**options))
            context.set_default_timeout(_PATIENCE_MILLISECONDS)
            visited = Visit(context.new_page())
            visited.page.goto(url)
            return visited

        yield open_page


@dataclass
class Shop:
    """An app with failed tasks, and the figures that its page shows."""

    stack: Stack
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        self.app = Celery("shop", broker="memory://", set_as_current=False)
        settings = self.stack.settings
        for name in ("queue_url", "dead_letter_queue_url", "idempotency_table", "endpoint_url"):
            self.app.conf[f"lambda_{name}"] = getattr(settings, name)
        self.app.conf.lambda_tasks = ["*"]
        lambda_celery.install(self.app)

    def serving(self, **options: Any) -> Any:
        """Return what serves the page of the shop."""
        return serving(self.app, self.figures, **{"port": 0, **options})

    def fail(self, number: int, **fields: Any) -> None:
        """Have a task fail for good."""
        values: dict[str, Any] = {
            "id": f"failure#{number}",
            "task": "shop.charge_card",
            "task_id": f"93f1e0b7-charge-{number}",
            "queue": "arn:aws:sqs:eu-west-1:000000000000:shop-payments",
            "dead_letter_queue": "https://sqs.eu-west-1.amazonaws.com/000000000000/shop-dead",
            "reason": "failed",
            "exception": "ConnectTimeout",
            "message": "gateway.example did not answer within 5 s",
            "traceback": _TRACEBACK,
            "args": f"({number},)",
            "failed_at": NOW - timedelta(seconds=37 * number),
            "attempts": 5,
            "size": 412,
            "root_id": "5d0c6a52-order",
            "body": f"the body of {number}",
        }
        with FailedTasks(self.app) as tasks:
            tasks.records.put(Failure(**{**values, **fields}), _LIFE_SECONDS)


@pytest.fixture
def shop(stack: Stack) -> Shop:
    """A shop without a failed task."""
    return Shop(stack)
