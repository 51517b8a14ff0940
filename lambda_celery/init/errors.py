"""What ends ``lambda init``."""

from __future__ import annotations

from lambda_celery.exceptions import LambdaCeleryError


class InitError(LambdaCeleryError):
    """The infrastructure cannot be written; nothing was changed."""
