"""How long a burst takes on Lambda, what it costs and what limits it: ``lambda plan``.

A simulation that needs no AWS: what is known of AWS (scaling, quotas, prices) is in
``aws.json``, each figure with its source and the day on which it was read there.
"""
