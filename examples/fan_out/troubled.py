"""The app as the demo deploys it: one turn kills its process, once."""

import os
import signal
from pathlib import Path
from typing import Any

from celery.signals import task_prerun

from examples.fan_out.app import app

#: Names the directory in which it is written that the process was killed.
VARIABLE = "FAN_OUT_DEATHS"
#: The batch whose turn does it.
BATCH_VARIABLE = "FAN_OUT_FATAL_BATCH"

__all__ = ["app"]


@task_prerun.connect
def _kill(args: Any = (), **_: Any) -> None:
    directory, fatal = os.environ.get(VARIABLE), os.environ.get(BATCH_VARIABLE)
    if directory is None or list(args) != [int(fatal or -1)]:
        return
    death = Path(directory, "killed")
    if not death.exists():
        death.touch()
        os.kill(os.getpid(), signal.SIGKILL)
