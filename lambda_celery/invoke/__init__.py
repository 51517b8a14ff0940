"""Direct calls: the tasks of the function, without the queue, and with their results.

::

    from lambda_celery.invoke import gather

    totals = gather(work.s(batch) for batch in batches)

See ``docs/direct-calls.md``.
"""

from lambda_celery.invoke.calls import CallResult
from lambda_celery.invoke.faces import agather, ainvoke, gather, invoke, stream

__all__ = ["CallResult", "agather", "ainvoke", "gather", "invoke", "stream"]
