"""Lambda's Invoke API on this machine, for one function.

``server.py`` serves ``application.py``, which has ``calls.py`` read what is asked, runs it in the
function's places or hands it to ``events.py``, which queues what nobody waits for, and has
``answers.py`` put the outcome into AWS's words. What runs a handler is none of this folder's.
"""
