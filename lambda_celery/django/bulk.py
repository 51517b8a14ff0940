"""Bulk actions on failed tasks in Django's admin: begun for all that match, and looked at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery.app import app_or_default
from django.contrib import messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from lambda_celery.dashboard.listing import selection_of
from lambda_celery.django.models import FailedTask
from lambda_celery.exceptions import FailedTaskError, LambdaCeleryError
from lambda_celery.failures import BulkAction, BulkActions

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as _Admin
else:
    _Admin = object

#: Messages a second, unless somebody writes another number.
_PER_SECOND = "50"


class BulkViews(_Admin):
    """Views of the admin of failed tasks. What may be begun may be aborted and resumed."""

    def bulk_urls(self, name: str) -> list[Any]:
        """Return their paths, with names that begin with *name*."""
        wrap = self.admin_site.admin_view
        begin, look = require_POST(self.begin_view), require_http_methods(["GET", "POST"])
        return [
            path("bulk/begin/", wrap(begin), name=f"{name}_begin"),
            path("bulk/", wrap(look(self.bulk_view)), name=f"{name}_bulk"),
        ]

    def begin_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether it shall be done with all that match; begin it, once that is confirmed."""
        verb = request.POST.get("verb", "")
        if verb not in self._verbs(request):
            raise PermissionDenied
        query = QueryDict(request.POST.get("query", ""))
        context: dict[str, Any] = {
            "title": "All that match", "verb": verb, "query": query.urlencode(),
            "word": self._verbs(request)[verb],
            "name": request.POST.get("name") or f"{verb}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            "per_second": request.POST.get("per_second") or _PER_SECOND,
        }  # fmt: skip
        try:
            actions = BulkActions(app_or_default())
            selection = selection_of(query)
            until = _moment(request.POST.get("until", ""))
            counted = actions.count(selection, until)
            context["total"], context["until"] = counted.total, counted.until.isoformat()
            context["counts"] = counted.counts.most_common()
            if "confirmed" in request.POST:
                begun = actions.begin(
                    context["name"], verb, selection, counted=counted,
                    per_second=_number(context["per_second"]), begun_by=request.user.get_username(),
                )  # fmt: skip
                self._log_bulk(request, begun, f"Begun, with {begun.counted} failed tasks.")
                return HttpResponseRedirect(self._url("bulk"))
        except LambdaCeleryError as exc:
            context["error"] = str(exc)
        return self._page(request, "begin", context)

    def bulk_view(self, request: HttpRequest) -> HttpResponse:
        """Show the actions and how far they are; abort or resume one."""
        self._let_look(request)
        context: dict[str, Any] = {"title": "Bulk actions"}
        try:
            actions = BulkActions(app_or_default())
            if request.method == "POST":
                self._change(request, actions)
                return HttpResponseRedirect(self._url("bulk"))
            verbs = self._verbs(request)
            context["rows"] = [
                {
                    "action": each,
                    "verb": each.verb.replace("_", " "),
                    "worked_off": each.done + each.refused,
                    "change": ("abort" if each.is_running else "resume")
                    if each.verb in verbs and each.state != "done"
                    else "",
                }
                for each in actions.all()
            ]
        except LambdaCeleryError as exc:
            context["error"] = str(exc)
        return self._page(request, "bulk", context)

    def _change(self, request: HttpRequest, actions: BulkActions) -> None:
        change = {"abort": actions.abort, "resume": actions.resume}.get(
            request.POST.get("change", "")
        )
        name = request.POST.get("name", "")
        if change is None:
            raise PermissionDenied
        try:
            if actions.get(name).verb not in self._verbs(request):
                raise PermissionDenied
            changed = change(name)
        except FailedTaskError as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return
        self._log_bulk(request, changed, f"It is {changed.state} now.")

    def _log_bulk(self, request: HttpRequest, action: BulkAction, told: str) -> None:
        told = f"Bulk action {action.name}, {action.verb.replace('_', ' ')}: {told}"
        self.message_user(request, told, messages.SUCCESS)
        LogEntry.objects.log_actions(
            user_id=request.user.pk,
            queryset=[FailedTask(id=f"bulk#{action.name}", name=f"bulk action {action.name}")],
            action_flag=DELETION if action.verb == "discard" else CHANGE,
            change_message=told,
        )

    if TYPE_CHECKING:

        def _verbs(self, request: HttpRequest) -> dict[str, str]: ...
        def _let_look(self, request: HttpRequest) -> None: ...
        def _url(self, name: str, *args: str) -> str: ...
        def _page(
            self, request: HttpRequest, template: str, context: dict[str, Any], **more: Any
        ) -> HttpResponse: ...


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FailedTaskError(f"{text!r} is no number of messages a second.") from None


def _moment(text: str) -> datetime | None:
    """Return what was counted until, when it was asked; what failed since is left out."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        raise FailedTaskError(f"{text!r} is no moment: begin with the list.") from None
