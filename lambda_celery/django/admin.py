"""Failed tasks in Django's admin: listed, looked at, sent back, sent again, discarded.

Django's admin imports this module, so that nothing of the admin is imported where it is not used.
"""

from __future__ import annotations

import time
from glob import escape
from typing import Any

from celery.app import app_or_default
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import include, path, reverse
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_GET, require_POST

from lambda_celery.dashboard import page
from lambda_celery.dashboard.answers import (
    MOST_SECONDS,
    ROWS,
    fields_of,
    is_for_all,
    queue_name,
)
from lambda_celery.dashboard.listing import FILTERS, listed
from lambda_celery.django.bulk import BulkViews
from lambda_celery.django.dashboard import api_paths
from lambda_celery.django.models import FailedTask
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.failures import Done, FailedTasks, Failure
from lambda_celery.failures.dead_letters import Fate

#: Of so many, each is told in a message.
_TOLD = 10

#: What can be done: the permission it takes, the words for it, and for what it means.
_VERBS = {
    "retry": ("change", "Retry", "sent back to their queue, under their ids. Each runs once"),
    "send_again": ("change", "Send again", "sent again as new calls, with new ids"),
    "discard": ("delete", "Discard", "discarded: their dead letters are deleted"),
}


@admin.register(FailedTask)
class FailedTaskAdmin(BulkViews, admin.ModelAdmin):
    """Views over the index of failed tasks: no row of a database is read but the admin's log."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds a failure."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the paths of the admin's usual names, and that of what is done."""
        wrap = self.admin_site.admin_view
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", wrap(require_GET(self.changelist_view)), name=f"{name}_changelist"),
            path("dashboard/", wrap(require_GET(self.dashboard_view)), name=f"{name}_dashboard"),
            path(
                "dashboard/api/",
                include(api_paths(self, lambda quoted: self._url("change", quoted))),
            ),
            path("count/", wrap(require_GET(self.count_view)), name=f"{name}_count"),
            path("do/", wrap(require_POST(self.do_view)), name=f"{name}_do"),
            *self.bulk_urls(name),
            path("<path:object_id>/history/", wrap(self.history_view), name=f"{name}_history"),
            path("<path:object_id>/change/", wrap(self.change_view), name=f"{name}_change"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a page of the list."""
        self._let_look(request)
        context: dict[str, Any] = {"title": "Failed tasks"}
        values = request.GET
        try:
            with FailedTasks(app_or_default()) as tasks:
                found = listed(tasks, values, rows=ROWS)
        except LambdaCeleryError as exc:
            context["error"] = str(exc)
        else:
            context["rows"] = [_row(each) for each in found.failures]
            context["is_cut"] = found.is_cut
            context["next"] = found.after and _query(values, after=found.after)
        return self._page(
            request,
            "change_list",
            context | (extra_context or {}),
            filters=[(name, label, values.get(name, "")) for name, label in FILTERS.items()],
            query=values.urlencode(),
            is_filtered=any(values.get(name) for name in FILTERS),
            is_first="after" not in values,
            may_be_all=not values.get("q"),
            are_ticked="ticked" in values,
            ticked=_query(values, ticked="1"),
            first=_query(values, after=""),
        )

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show the page of figures, which asks for them by itself."""
        self._let_look(request)
        return self._page(
            request,
            "dashboard",
            {"title": "Dashboard"},
            fragment=mark_safe(page.fragment(f"{self._url('dashboard')}api/")),  # noqa: S308
            styles=page.STYLES,
            scripts=page.SCRIPTS,
        )

    def count_view(self, request: HttpRequest) -> HttpResponse:
        """Show how many there are of each task, exception and queue. It reads the whole index."""
        self._let_look(request)
        context: dict[str, Any] = {"title": "Failed tasks, counted"}
        try:
            with FailedTasks(app_or_default()) as tasks:
                counts = tasks.records.count()
        except LambdaCeleryError as exc:
            context["error"] = str(exc)
        else:
            context["total"] = counts.total()
            context["counts"] = [
                {
                    "task": task,
                    "exception": exception,
                    "queue": queue_name(queue),
                    "number": number,
                    "query": _query(
                        QueryDict(), task=escape(task), exception=escape(exception), queue=queue
                    ),
                }
                for (task, exception, queue), number in counts.most_common()
            ]
        return self._page(request, "count", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show all that is known of one failure."""
        self._let_look(request)
        context: dict[str, Any] = {"title": "Failed task"}
        try:
            with FailedTasks(app_or_default()) as tasks:
                failure = tasks.records.get(unquote(object_id))
        except LambdaCeleryError as exc:
            context["error"] = str(exc)
        else:
            if failure is None:
                self.message_user(
                    request,
                    "There is no such failed task any longer: it has run since, was discarded, or "
                    "its time is over.",
                    messages.WARNING,
                )
                return HttpResponseRedirect(self._url("changelist"))
            context["failure"] = failure
            context["subtitle"] = _name(failure)
            context["fields"] = fields_of(failure)
        return self._page(
            request,
            "change_form",
            context | (extra_context or {}),
            history=self._url("history", object_id),
        )

    def do_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether it shall be done with what was chosen; do it, once that is confirmed."""
        verb = request.POST.get("verb", "")
        if verb not in self._verbs(request):
            raise PermissionDenied
        ids = list(dict.fromkeys(request.POST.getlist(ACTION_CHECKBOX_NAME)))
        query = QueryDict(request.POST.get("query", "")).urlencode()
        back = HttpResponseRedirect(f"{self._url('changelist')}?{query}".rstrip("?"))
        if not ids:
            self.message_user(request, "No failed task was chosen.", messages.WARNING)
            return back
        if len(ids) > ROWS:
            self.message_user(
                request,
                f"{len(ids)} are too many for one request: choose {ROWS} at most, or use "
                "celery -A proj lambda failed.",
                messages.ERROR,
            )
            return back
        context: dict[str, Any] = {"title": "Are you sure?", "verb": verb, "query": query}
        try:
            with FailedTasks(app_or_default()) as tasks:
                if "confirmed" in request.POST:
                    self._do(request, tasks, verb, ids)
                    return back
                found = [each for each in map(tasks.records.get, ids) if each is not None]
        except LambdaCeleryError as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return back
        _, word, meaning = _VERBS[verb]
        return self._page(
            request,
            "confirm",
            context,
            word=word,
            meaning=meaning,
            rows=[_row(each) for each in found],
            gone=len(ids) - len(found),
        )

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> FailedTask:
        """Return what the admin's log calls the failure; its history outlives its record."""
        return FailedTask(id=object_id)

    def _do(self, request: HttpRequest, tasks: FailedTasks, verb: str, ids: list[str]) -> None:
        """Do *verb* with each of *ids*, and tell what has become of it."""
        done: list[Done] = []
        refused: list[str] = []
        ends_at = time.monotonic() + MOST_SECONDS
        for each in ids:
            if time.monotonic() > ends_at:
                break
            try:
                result = getattr(tasks, verb)(tasks.get(each))
            except LambdaCeleryError as exc:
                refused.append(str(exc))
                if is_for_all(exc):
                    break
            else:
                done.append(result)
                self._log(request, result)
        for result in done[:_TOLD]:
            level = messages.SUCCESS if _is_whole(result) else messages.WARNING
            self.message_user(request, str(result), level)
        if len(done) > _TOLD:
            self.message_user(request, f"{len(done)} in all.", messages.SUCCESS)
        for sentence in list(dict.fromkeys(refused))[:_TOLD]:
            self.message_user(request, sentence, messages.ERROR)
        if refused:
            self.message_user(
                request,
                f"With {len(refused)} of {len(ids)} it could not be done.",
                messages.ERROR,
            )
        if left := len(ids) - len(done) - len(refused):
            self.message_user(
                request, f"{left} were left as they are: choose them again.", messages.WARNING
            )

    def _log(self, request: HttpRequest, done: Done) -> None:
        LogEntry.objects.log_actions(
            user_id=request.user.pk,
            queryset=[FailedTask(id=done.failure.id, name=_name(done.failure))],
            action_flag=CHANGE if done.queue_url else DELETION,
            change_message=str(done),
        )

    def _let_look(self, request: HttpRequest) -> None:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied

    def _verbs(self, request: HttpRequest) -> dict[str, str]:
        """Return what the user may do, with the words for it."""
        may = {
            "change": self.has_change_permission(request),
            "delete": self.has_delete_permission(request),
        }
        return {verb: word for verb, (permission, word, _) in _VERBS.items() if may[permission]}

    def _url(self, name: str, *args: str) -> str:
        full = f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return str(reverse(full, args=args, current_app=self.admin_site.name))

    def _page(
        self, request: HttpRequest, template: str, context: dict[str, Any], **more: Any
    ) -> HttpResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/lambda_celery/failedtask/{template}.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "verbs": self._verbs(request),
                "checkbox": ACTION_CHECKBOX_NAME,
                "list_url": self._url("changelist"),
                "count_url": self._url("count"),
                "dashboard_url": self._url("dashboard"),
                "do_url": self._url("do"),
                "bulk_url": self._url("bulk"),
                "begin_url": self._url("begin"),
                **context,
                **more,
            },
        )


def _is_whole(done: Done) -> bool:
    return not done.refusal and done.dead_letter is not Fate.UNKNOWN


def _name(failure: Failure) -> str:
    return f"{failure.task} {failure.task_id}".strip() or failure.id


def _row(failure: Failure) -> dict[str, Any]:
    return {"failure": failure, "key": quote(failure.id), "queue": queue_name(failure.queue)}


def _query(values: QueryDict, **changed: str) -> str:
    """Return the query of *values* with what is *changed*; what is changed to "" is left out."""
    new = values.copy()
    for name, value in {"ticked": "", **changed}.items():
        new.pop(name, None)
        if value:
            new[name] = value
    return str(new.urlencode())
