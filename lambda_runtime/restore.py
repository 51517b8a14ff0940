"""SnapStart: what no snapshot may hold, and what each environment restored from it has anew.

Lambda takes a picture of the memory when the function's modules are imported, and begins every
environment with a copy of it
(https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html). What was drawn at random
would be the same in all of them, and what was connected would be connected to nothing. Clients of
AWS are in the picture, too; they ask for other credentials when theirs expire.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from celery import Celery

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_runtime.celery_hooks.restored import renew_ids

_VARIABLE = "AWS_LAMBDA_INITIALIZATION_TYPE"
_SNAP_START = "snap-start"


def precedes_snapshot() -> bool:
    """Whether Lambda takes a snapshot of this process before its first invocation."""
    return os.environ.get(_VARIABLE) == _SNAP_START


def register(app: Celery, settings: Settings, let_go: Callable[[], None]) -> None:
    """Have Lambda's runtime call what is to be done before the snapshot, and after each restore.

    :param let_go: ends what belongs to one environment alone: connections, child processes.
    """
    # Lambda's managed runtimes have it, and call it. It is none of the requirements.
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    register_before_snapshot(_before_snapshot, settings, let_go)
    register_after_restore(_after_restore, app, let_go)


def _before_snapshot(settings: Settings, let_go: Callable[[], None]) -> None:
    for patient in (True, False):  # what the first batch would make: that takes 20 ms of CPU
        aws.client("sqs", settings, patient=patient)
    let_go()


def _after_restore(app: Celery, let_go: Callable[[], None]) -> None:
    # The back-off of this package, of Celery, of botocore, and of most tasks.
    random.seed()
    renew_ids(app)
    let_go()  # once more: hooks of the app's may have run after ours, and connected
