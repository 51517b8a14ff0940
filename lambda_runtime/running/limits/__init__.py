"""Soft and hard time limits: of what runs on a thread by its watchdog, of coroutines by the loop.

How long a limit is does not belong here: the attempt says it. The main path enters at
:func:`~lambda_runtime.running.limits.time_limits.call_within`; coroutines
have :class:`~lambda_runtime.running.limits.by_loop.LoopLimits`. Behind them all is the end of the
process: Lambda's, or our own.
"""
