"""``celery -A proj lambda check``: what of a project does not run on Lambda as on a worker.

:mod:`facts` collects once what is known of the project, the modules in :mod:`rules` look at that
and find, :mod:`doctor` puts them together, and :mod:`report` tells it.
"""
