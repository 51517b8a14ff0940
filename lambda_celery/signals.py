"""Signals of this package's own, beside Celery's. They are connected to as Celery's are.

from lambda_celery.signals import batch_finished

@batch_finished.connect
def flush_metrics(seconds_left, **kwargs):
    metrics.flush_metrics()
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

#: Sent in the function when a batch is through, before Lambda gets its answer and freezes the
#: process. ``context`` is Lambda's, and after ``seconds_left`` receivers are cut off. What they
#: raise is logged.
batch_finished = Signal(name="batch_finished", providing_args={"context", "seconds_left"})
