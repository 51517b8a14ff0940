"""How a command ends that cannot do what it is told: in the sentence, without a stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.terminal import printable

#: Modules that the commands import when they run, and the extra that has them.
_EXTRAS = {
    **dict.fromkeys(("hcl2", "packaging", "rich", "tomlkit", "yaml"), "deploy"),
    **dict.fromkeys(("starlette", "uvicorn"), "dashboard"),
}


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Turn what the project raises in the context into the end of the command.

    A module of an extra that is not installed ends it, too.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        raise click.ClickException(
            f"{missing} is missing: pip install 'lambda-celery[{_EXTRAS[missing]}]'."
        ) from exc
    except LambdaCeleryError as exc:
        # Some repeat what a sender has written.
        raise click.ClickException(printable(str(exc))) from exc
