"""Tasks that are published before the row that they are about is there."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from lambda_celery.check.bodies import Body
from lambda_celery.check.facts import CallSite, Facts
from lambda_celery.check.model import Finding, Grade, registry

_ATOMIC = ("django.db.transaction.atomic*", "django.db.transaction.Atomic*")
_ON_COMMIT = ("on_commit", "run_on_commit", "batch_on_commit")
#: Methods of a model, and of an admin page, that run within the transaction of who saves.
_OF_MODEL = {"save", "delete", "save_base", "full_clean"}
_OF_ADMIN = {"save_model", "delete_model", "save_form", "save_formset", "save_related",
             "delete_queryset", "response_add", "response_change", "log_addition"}  # fmt: skip
_SIGNALS = ("pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed")


@registry.rule("publish-in-transaction", "A task that is published within a transaction")
def publish_in_transaction(facts: Facts) -> Iterator[Finding]:
    """A task is called within `transaction.atomic`, a model's `save`, or a receiver of `post_save`.

    The message is sent at once, and the row is there when the transaction commits. A worker that
    polls is rarely faster; the function starts within milliseconds, finds no row
    (`DoesNotExist`) or the old one, and after a rollback it does what should not have been
    done. A `save` and a receiver have the transaction of who saves: Django's admin always has one.
    So do views with `ATOMIC_REQUESTS`. Call the task by `delay_on_commit()`, by
    `transaction.on_commit(…)`, or within `lambda_celery.django.batch_on_commit()`.
    """
    is_each_request = _has_atomic_requests()
    for site in facts.call_sites:
        if not site.is_call or "on_commit" in site.call.attribute:
            continue
        where = _transaction(site, is_each_request=is_each_request)
        if where is not None:
            yield Finding(
                "publish-in-transaction",
                Grade.AMBER,
                site.task,
                f"{site.call.text}() is {where}: the message is sent before the row is there, and "
                "the function starts within milliseconds.",
                "Use delay_on_commit(), transaction.on_commit(…) or batch_on_commit().",
                site.call.place,
            )


def _transaction(site: CallSite, *, is_each_request: bool) -> str | None:
    """Return in which transaction the task is published; ``None`` if in none that is seen."""
    body = site.call.body
    parents = _parents(body)
    node: ast.AST = site.call.node
    inner: ast.AST | None = None
    while (parent := parents.get(node)) is not None:
        if isinstance(parent, ast.Call) and node is not parent.func and _is_on_commit(parent):
            return None
        if isinstance(parent, ast.With | ast.AsyncWith):
            if any(_is_on_commit(item.context_expr) for item in parent.items):
                return None
            if inner is None and any(_is_atomic(body, i.context_expr) for i in parent.items):
                return "within transaction.atomic()"
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if _is_handed_to_on_commit(body, getattr(parent, "name", None)):
                return None
            inner = inner or parent
            if parent is inner and (where := _of_function(body, parent)):
                return where
        node = parent
    if inner is None or inner is body.node:
        return _of_method(body, is_each_request=is_each_request)
    return None


def _parents(body: Body) -> Mapping[ast.AST, ast.AST]:
    return {
        child: parent for parent in ast.walk(body.node) for child in ast.iter_child_nodes(parent)
    }


def _is_on_commit(node: ast.expr) -> bool:
    function = node.func if isinstance(node, ast.Call) else node
    return str(getattr(function, "attr", getattr(function, "id", ""))) in _ON_COMMIT


def _is_atomic(body: Body, node: ast.expr) -> bool:
    function = node.func if isinstance(node, ast.Call) else node
    names = body.meaning(function).names
    return any(fnmatchcase(name, each) for name in names for each in _ATOMIC)


def _is_handed_to_on_commit(body: Body, name: str | None) -> bool:
    return any(
        isinstance(each, ast.Call) and _is_on_commit(each) and _names(each.args, name)
        for each in ast.walk(body.source.tree)
    )


def _of_function(body: Body, node: ast.AST) -> str | None:
    decorators = getattr(node, "decorator_list", [])
    if any(_is_atomic(body, each) for each in decorators):
        return "in a function with transaction.atomic"
    connected = [
        each.func.value
        for each in ast.walk(body.source.tree)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr == "connect"
        and _names(each.args, getattr(node, "name", None))
    ]
    signals = [*(each for each in decorators if "receiver" in ast.unparse(each)), *connected]
    if any(
        getattr(each, "attr", getattr(each, "id", "")) in _SIGNALS
        for signal in signals
        for each in ast.walk(signal)
    ):
        return "in a receiver of a model's signal, which runs in the transaction of who saves"
    return None


def _names(nodes: Iterable[ast.AST], name: str | None) -> bool:
    """Whether the function *name* stands in *nodes*."""
    return name is not None and any(
        isinstance(each, ast.Name) and each.id == name for node in nodes for each in ast.walk(node)
    )


def _of_method(body: Body, *, is_each_request: bool) -> str | None:
    owner, _, method = body.name.rpartition(".")
    if method in _OF_MODEL and owner and _is_model(body, owner):
        return f"in a model's {method}(), which runs in the transaction of who saves"
    if method in _OF_ADMIN and owner:
        return f"in {method}() of an admin page, which runs in a transaction"
    names = [each.arg for each in body.parameters]
    if is_each_request and "request" in names[:2]:
        return "in a view, and ATOMIC_REQUESTS is on"
    return None


def _is_model(body: Body, owner: str) -> bool:
    if body.owner is not None and any(
        each.__name__ == "Model" and each.__module__.startswith("django.")
        for each in body.owner.__mro__
    ):
        return True
    # Where the module is not loaded, or Django is not installed, the names of the bases say it.
    node = body.source.classes.get(owner)
    return node is not None and any(ast.unparse(each).endswith("Model") for each in node.bases)


def _has_atomic_requests() -> bool:
    if "django.conf" not in sys.modules:
        return False
    from django.conf import settings

    databases = (getattr(settings, "DATABASES", None) or {}) if settings.configured else {}
    return any(bool(each.get("ATOMIC_REQUESTS")) for each in databases.values())
