"""The service that the tasks ask: how long it takes, and what it answers."""

import os

#: How long the service takes to answer.
WAIT_SECONDS = float(os.environ.get("BIG_BATCH_WAIT_SECONDS", "0.05"))


class ServiceError(Exception):
    """The service has answered that it cannot."""


def fate(number: int) -> str:
    """Return what is to become of the call of *number*."""
    if number % 500 == 99:
        return "fails always"
    return {7: "fails once", 13: "retries once"}.get(number % 50, "succeeds")
