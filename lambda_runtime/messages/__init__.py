"""In and out: a delivery, the request in it, its outcome, settling it, the queue it came from.

What decides on an outcome does not belong here: see :mod:`lambda_runtime.decision`. The main path
enters at :class:`~lambda_runtime.messages.delivery.Delivery` and leaves by
:class:`~lambda_runtime.messages.settlement.Settlement`.
"""
