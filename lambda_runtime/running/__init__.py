"""Running a task: execution, failure policy, time limits, threads, the event loop, connections.

Whether it may run does not belong here: see :mod:`lambda_runtime.decision`. The main path enters
at :meth:`TaskRunner.run <lambda_runtime.running.execution.TaskRunner.run>`.
"""
