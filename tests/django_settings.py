"""Django as tests in this process have it: a module to import before what reads its settings."""

from django.conf import settings

if not settings.configured:
    settings.configure(USE_TZ=True, USE_I18N=False, DEFAULT_FROM_EMAIL="default@example.com")
