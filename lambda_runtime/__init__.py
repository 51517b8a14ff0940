"""What is deployed: the Lambda handler that runs Celery tasks from SQS.

``lambda_runtime.handler`` is the handler string of the function; the environment
variable ``LAMBDA_CELERY_APP`` names the app. For a handler module of your own::

    from lambda_runtime import make_handler
    from proj.celery import app

    handler = make_handler(app)
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from lambda_runtime.invocation import Handler, make_handler

__all__ = ["Handler", "handler", "make_handler"]


def handler(event: Any, context: Any) -> Any:
    """Run the batch *event* with the app that ``LAMBDA_CELERY_APP`` names.

    It is here before the app is loaded. What instruments functions by their names, such as
    OpenTelemetry, may be called by the app's own modules, and finds it.
    """
    return _made_handler()(event, context)


@cache
def _made_handler() -> Handler:
    from lambda_runtime.celery_hooks.bootstrap import APP_VARIABLE, load_app

    return make_handler(load_app(os.environ.get(APP_VARIABLE)))


# In the function's init phase, and not when somebody imports make_handler. Lambda names the
# handler in _HANDLER, and wrappers keep it in variables of their own.
if f"{__name__}.handler" in os.environ.values():
    _made_handler()
