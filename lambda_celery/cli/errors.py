"""How a command ends that cannot do what it is told: in the sentence, without a stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from lambda_celery.exceptions import LambdaCeleryError


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Turn what the project raises in the context into the end of the command."""
    try:
        yield
    except LambdaCeleryError as exc:
        raise click.ClickException(str(exc)) from exc
