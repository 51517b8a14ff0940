"""Soft and hard time limits, with three ways to strike: by signal, by thread, by the loop.

How long a limit is does not belong here: the attempt says it. The main path enters at
:meth:`TimeLimits.call <lambda_runtime.running.limits.time_limits.TimeLimits.call>`; coroutines
have :class:`~lambda_runtime.running.limits.by_loop.LoopLimits`.
"""
