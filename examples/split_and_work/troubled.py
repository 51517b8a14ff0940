"""The app as the demo's functions load it: with two processes that die, each once.

They die as for want of memory, by SIGKILL: nothing is tidied up.
"""

import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

from celery.signals import before_task_publish, task_prerun

from examples.split_and_work.app import app, work

__all__ = ("app",)

#: A directory in which is written who has died.
VARIABLE = "SPLIT_AND_WORK_DEATHS"
#: How many calls the splitting process makes before it dies.
CALLS_VARIABLE = "SPLIT_AND_WORK_CALLS"
#: The row before which the working process dies.
ROW_VARIABLE = "SPLIT_AND_WORK_ROW"

_calls = count(1)


@before_task_publish.connect(sender=work.name)
def die_while_splitting(**_: Any) -> None:
    if next(_calls) == int(os.environ[CALLS_VARIABLE]):
        _die_once("split")


@task_prerun.connect(sender=work)
def die_before_a_row(args: Any = (), **_: Any) -> None:
    if args[0]["number"] == int(os.environ[ROW_VARIABLE]):
        _die_once("work")


def _die_once(name: str) -> None:
    try:
        (Path(os.environ[VARIABLE]) / name).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
