"""What ends a build."""

from __future__ import annotations

from lambda_celery.exceptions import LambdaCeleryError


class PackagingError(LambdaCeleryError):
    """The package cannot be built, or could not run on Lambda; nothing was written."""
