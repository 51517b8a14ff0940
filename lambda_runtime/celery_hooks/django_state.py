"""Django's private parts: where it keeps settings in force, pools, and each context's caches."""

from __future__ import annotations

from typing import Any


def settings_in_force() -> Any:
    """Return what answers for the settings now, to be given to :func:`end_overrides`."""
    from django.conf import settings

    return settings._wrapped


def end_overrides(before: Any) -> list[str]:
    """End what ``override_settings`` has begun since *before*; return the settings' names."""
    from django.conf import UserSettingsHolder, settings
    from django.core.signals import setting_changed

    ended: list[str] = []
    while (holder := settings._wrapped) is not before and isinstance(holder, UserSettingsHolder):
        settings._wrapped = holder.default_settings
        names = [each for each in vars(holder) if each.isupper()]
        for name in names:
            setting_changed.send_robust(
                sender=type(holder),
                setting=name,
                value=getattr(settings, name, None),
                enter=False,
            )
        ended += names
    return ended


def caches_of_context() -> dict[str, Any]:
    """Return the caches that have been made in this context, by their aliases."""
    from django.core.cache import caches

    return {each: caches[each] for each in caches if hasattr(caches._connections, each)}


def has_pool(connection: Any) -> bool:
    """Whether a pool has been made for the database of *connection*: to ask for one makes it."""
    # The backends of others may have an option of that name.
    return connection.alias in getattr(connection, "_connection_pools", ())
