"""What is deployed: the Lambda handler that runs Celery tasks from SQS.

``lambda_runtime.handler`` is the handler string of the function; the environment
variable ``LAMBDA_CELERY_APP`` names the app. For a handler module of your own::

    from lambda_runtime import make_handler
    from proj.celery import app

    handler = make_handler(app)
"""

from __future__ import annotations

import os
from typing import Any

from lambda_runtime.invocation import Handler, make_handler

__all__ = ["Handler", "make_handler"]


def __getattr__(name: str) -> Any:
    # Lambda's runtime client imports this package and then asks for the attribute: here,
    # in the init phase, the app is loaded, and not when somebody imports make_handler.
    if name == "handler":
        from lambda_runtime.celery_hooks.bootstrap import APP_VARIABLE, load_app

        made = make_handler(load_app(os.environ.get(APP_VARIABLE)))
        globals()["handler"] = made
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
