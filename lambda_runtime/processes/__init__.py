"""Tasks in processes of their own: forked, fed over a socket pair, killed and replaced.

What becomes of a message does not belong here: the parent answers for the batch
(:mod:`lambda_runtime.batch`), and each child decides as one process would
(:mod:`lambda_runtime.decision`). The main path enters at
:meth:`Processes.run <lambda_runtime.processes.parent.Processes.run>`, and in a child at
:func:`serve <lambda_runtime.processes.child.serve>`.

Lambda has no shared memory, and so none of the semaphores, queues and pools of
``multiprocessing``: this takes ``os.fork`` and sockets alone.
"""
