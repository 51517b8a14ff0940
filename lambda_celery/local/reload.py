"""``--reload``: new runtime processes when Python code changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from lambda_celery.exceptions import ConfigurationError

logger = logging.getLogger(__name__)


def watch(directory: Path, on_change: Callable[[], None], stopping: threading.Event) -> None:
    """Call *on_change* when Python files under *directory* change, until *stopping* is set.

    It returns at once and watches on a thread. Virtual environments, caches and the like
    are not watched. Raises :exc:`ConfigurationError` if watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError as exc:
        raise ConfigurationError(
            "--reload needs watchfiles: install `lambda-celery[local]`."
        ) from exc

    def run() -> None:
        changes = watchfiles.watch(
            directory,
            watch_filter=watchfiles.PythonFilter(),
            stop_event=stopping,
            rust_timeout=500,  # ms between two looks at the event
            raise_interrupt=False,
        )
        for changed in changes:
            names = sorted({Path(path).name for _, path in changed})
            logger.info("Reloading: %s changed", ", ".join(names))
            on_change()

    threading.Thread(target=run, name="reload", daemon=True).start()
