"""The page to look at: figures, charts and failed tasks, in a browser.

``page`` is the HTML and ``answers`` what its script asks for, both of no framework: ``web`` serves
them on loopback, and Django's admin has them as views of its own. The script, the styles and the
chart library are in ``lambda_celery/django/static``, where Django looks for an app's static files.
"""
