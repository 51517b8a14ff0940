"""The page of figures as views of the admin: for whoever may look at failed tasks.

Sending back and discarding are on the admin's own pages, which ask first and write its log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.app import app_or_default
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET

from lambda_celery.dashboard.answers import Answers
from lambda_celery.exceptions import ConfigurationError, FailedTaskError, LambdaCeleryError

#: Where the queues are an emulator's, this long.
_LOCAL_SECONDS = 10

_Answer = Callable[..., dict[str, Any]]


def api_paths(owner: Any, url_of_failure: Callable[[str], str]) -> list[Any]:
    """Return the paths of what the page's script asks for.

    :param owner: the admin of failed tasks, whose permissions hold.
    :param url_of_failure: returns the URL of the page about a failure, by its quoted id.
    """

    def failure(answers: Answers, _: HttpRequest, failure_id: str) -> dict[str, Any]:
        found = answers.failure(failure_id)
        return {**found, "page": url_of_failure(quote(failure_id))}

    answered: dict[str, _Answer] = {
        "status": lambda answers, _: answers.status(),
        "attempts/<path:task_id>": lambda answers, _, task_id: answers.attempts(task_id),
        "failed": lambda answers, request: answers.failed(request.GET),
        "failed-counts": lambda answers, _: answers.counts(),
        "failed/<path:failure_id>": failure,
    }
    wrap = owner.admin_site.admin_view
    return [path(name, wrap(_view(owner, answer))) for name, answer in answered.items()]


def _view(owner: Any, answer: _Answer) -> Any:
    @require_GET
    def view(request: HttpRequest, **names: str) -> HttpResponse:
        if not owner.has_view_or_change_permission(request):
            raise PermissionDenied
        try:
            return JsonResponse(answer(_answers_of(app_or_default()), request, **names))
        except FailedTaskError as exc:
            return JsonResponse({"error": str(exc)}, status=404)
        except LambdaCeleryError as exc:
            return JsonResponse({"error": str(exc)}, status=503)

    return view


def _answers_of(app: Celery) -> Answers:
    try:
        # More than the admin's other pages need.
        from lambda_celery.status import source
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{exc.name} is missing: pip install 'lambda-celery[django]'."
        ) from exc
    # A local run begins and ends while the web process goes on: it is looked for again.
    is_local = source.emulator_port(app) is not None
    return _kept(app, int(time.monotonic() / _LOCAL_SECONDS) if is_local else 0)


@lru_cache(maxsize=1)
def _kept(app: Celery, _: int) -> Answers:
    """Return what answers for *app*: it remembers what it has seen of the queues."""
    from lambda_celery.status import source

    return Answers(app, source.source_of(app))
