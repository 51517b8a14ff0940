"""The end of this process at its invocation's end, where Lambda does not see to it.

Lambda kills what has not answered in time. Lambda Managed Instances only report the time-out, and
the process goes on. But a record's lock ends with the invocation, and another one may then run the
task beside this one. Nothing but the end of the process is sure to end what waits in C, and holds
the interpreter's lock: so it is faulthandler's thread that ends it, which does not need that lock,
and says where each thread is.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lambda_runtime.deadline import Deadline

#: Lambda Managed Instances set it, and awslambdaric forks as many processes.
_MANAGED = "AWS_LAMBDA_MAX_CONCURRENCY"
_STANDARD_ERROR = 2


@contextmanager
def ended_with(deadline: Deadline) -> Iterator[None]:
    """End this process if the context lasts until the *deadline*, on Lambda Managed Instances.

    A child that is forked in the context must not leave it: it would wait for a thread that it
    does not have.
    """
    if _MANAGED not in os.environ:
        yield
        return
    seconds = max(deadline.seconds(), 0.001)
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
