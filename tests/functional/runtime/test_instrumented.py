"""Tools that put something around the handler, by its name."""

from __future__ import annotations

import pytest

INSTRUMENT = """
import lambda_runtime

def instrument(*args, **kwargs):
    inner = lambda_runtime.handler

    def instrumented(event, context):
        return {"instrumented": True, **inner(event, context)}

    lambda_runtime.handler = instrumented
"""
WAYS = {
    "at the top of the app's module": "instrument()",
    "in worker_process_init": "signals.worker_process_init.connect(instrument, weak=False)",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_put_around_the_handler_stays(stack, local_function, tmp_path, way):
    # Given: an app that instruments the handler as OpenTelemetry does
    (tmp_path / "instrument.py").write_text(INSTRUMENT)
    (tmp_path / "proj.py").write_text(
        f"""
from celery import Celery, signals
from instrument import instrument

app = Celery("proj")
{way}
"""
    )
    environment = {**stack.environment, "LAMBDA_CELERY_APP": "proj"}

    # When
    function = local_function("lambda_runtime.handler", environment=environment)
    result = function.invoke({"Records": []})

    # Then
    assert result.error is None
    assert result.payload == {"instrumented": True, "batchItemFailures": []}
