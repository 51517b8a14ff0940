"""Django's databases, whose connections Lambda freezes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade, registry

#: How the host of an RDS Proxy goes on after its name.
_RDS_PROXY = ".proxy-"
#: Where PgBouncer listens, unless it is told otherwise.
_PGBOUNCER_PORT = "6432"


def databases() -> Mapping[str, Mapping[str, Any]]:
    """Return Django's databases that are no files, by their aliases; none without Django."""
    if "django.conf" not in sys.modules:
        return {}
    from django.conf import settings

    if not settings.configured:
        return {}
    return {
        alias: each
        for alias, each in (getattr(settings, "DATABASES", None) or {}).items()
        if "sqlite" not in str(each.get("ENGINE", "sqlite"))
    }


@registry.rule("connection-life", "Database connections that outlive what they are for")
def connection_life(facts: Facts) -> Iterator[Finding]:
    """Connections are kept between tasks, and Django does not look whether they are alive.

    With `CELERY_DB_REUSE_MAX` a connection stays open after a task, with `OPTIONS["pool"]` in a
    pool. The function asks them at an invocation's begin, and the server may end one later: so
    set `CONN_HEALTH_CHECKS`. A pool with a `CONN_MAX_AGE` other than 0 is refused by Django, at the
    first query. Without either, connections are closed around each task, and `CONN_MAX_AGE`
    means nothing.
    """
    is_reused = bool(facts.app.conf.get("CELERY_DB_REUSE_MAX"))
    for alias, each in databases().items():
        subject = f"DATABASES[{alias!r}]"
        has_pool = bool((each.get("OPTIONS") or {}).get("pool"))
        if has_pool and each.get("CONN_MAX_AGE", 0) != 0:
            yield Finding(
                "connection-life",
                Grade.RED,
                subject,
                "It has a pool and a CONN_MAX_AGE, which Django refuses at the first query.",
                "Remove its CONN_MAX_AGE.",
            )
        if (has_pool or is_reused) and not each.get("CONN_HEALTH_CHECKS"):
            yield Finding(
                "connection-life",
                Grade.AMBER,
                subject,
                "Its connections are kept between tasks, and nobody looks whether the server has "
                "ended them.",
                "Set its CONN_HEALTH_CHECKS to True.",
            )


@registry.rule("server-side-cursors", "Server-side cursors behind a pooler")
def server_side_cursors(facts: Facts) -> Iterator[Finding]:
    """A PostgreSQL database is behind RDS Proxy or PgBouncer, and server-side cursors are on.

    `QuerySet.iterator()` opens one, which belongs to a connection of the server's. PgBouncer may
    give the next query another one ("cursor does not exist"), and RDS Proxy pins it to the client.
    Set `DISABLE_SERVER_SIDE_CURSORS`. They are known by the host (`….proxy-….rds.amazonaws.com`)
    and by the port 6432.
    """
    for alias, each in databases().items():
        is_pooled = _RDS_PROXY in str(each.get("HOST", "")) or (
            str(each.get("PORT", "")) == _PGBOUNCER_PORT
        )
        is_postgres = str(each.get("ENGINE", "")).endswith(("postgresql", "postgis"))
        if is_postgres and is_pooled and not each.get("DISABLE_SERVER_SIDE_CURSORS"):
            yield Finding(
                "server-side-cursors",
                Grade.AMBER,
                f"DATABASES[{alias!r}]",
                "It is behind a pooler, and QuerySet.iterator() opens a cursor on the server, "
                "which the next query may not find there.",
                "Set its DISABLE_SERVER_SIDE_CURSORS to True.",
            )
