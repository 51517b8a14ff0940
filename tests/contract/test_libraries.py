"""What is relied on in private parts of other libraries than Celery, and of CPython."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as executors

import boto3
import botocore.client
import botocore.endpoint
import botocore.handlers
import pytest
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord
from kombu.serialization import registry
from kombu.transport import SQS
from kombu.utils.json import loads

from lambda_celery import aws
from lambda_celery.aws import fast_requests
from lambda_celery.aws.connections import Patience
from lambda_celery.celery_hooks import running_loop
from lambda_celery.conf import Settings
from lambda_celery.payloads import _extended_session_class
from lambda_runtime import python_hooks


@pytest.mark.parametrize(
    "name",
    ["_put", "_receive_message", "_on_messages_ready", "_resolve_queue_url", "_update_queue_cache",
     "_resolve_delay_seconds", "_lookup"],
)  # fmt: skip
def test_kombus_channel_is_made_of_methods_that_ours_overrides_or_calls(name):
    assert callable(getattr(SQS.Channel, name, None)), (
        f"kombu's SQS channel has no {name} any longer: see lambda_celery/publishing/transport.py."
    )


def client(service):
    return boto3.session.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-west-1"
    ).client(service)


@pytest.mark.parametrize("service", sorted(fast_requests.FAST_SERVICES))
def test_the_fast_path_knows_this_botocore(service):
    """lambda_celery/aws/fast_requests.py: else every request would go botocore's way."""
    assert fast_requests.fast_client(client(service), None, Patience(1, 1, 1)) is not None
    assert not fast_requests.is_watched()


@pytest.mark.parametrize("service", sorted(fast_requests.FAST_SERVICES))
def test_nobody_but_botocore_and_powertools_listens_to_requests(service):
    """lambda_celery/aws/fast_requests.py: else every request would go botocore's way."""
    found = fast_requests.fast_client(client(service), None, Patience(1, 1, 1))
    assert found is not None
    assert not any(map(found.is_botocores, found._events))


def test_what_tracing_is_put_around_is_there():
    """lambda_celery/aws/fast_requests.py: is_watched."""
    assert callable(botocore.client.BaseClient._make_api_call)
    assert callable(botocore.client.ClientCreator._create_api_method)
    assert callable(botocore.endpoint.Endpoint.make_request)


def test_the_trace_and_the_function_are_named_to_aws_by_a_handler(monkeypatch):
    """lambda_celery/aws/fast_requests.py: add_recursion_detection_header."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "mail")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1")
    request = {"headers": {}}
    botocore.handlers.add_recursion_detection_header(request)
    assert request["headers"] == {"X-Amzn-Trace-Id": "Root=1"}


def test_powertools_layer_reads_an_item_with_an_owner():
    """lambda_runtime/table/claims.py: the owner is what Powertools validates a call by."""
    layer = DynamoDBPersistenceLayer(
        table_name="t", validation_key_attr="owner", boto3_client=client("dynamodb")
    )
    item = {
        "id": {"S": "key"},
        "expiration": {"N": str(int(time.time()) + 60)},
        "in_progress_expiration": {"N": "1"},
        "status": {"S": "INPROGRESS"},
        "owner": {"S": "me"},
    }
    record = layer._item_to_data_record(item)
    assert (record.payload_hash, record.status) == ("me", "INPROGRESS")
    assert int(record.in_progress_expiry_timestamp) == 1
    assert layer._get_key("key") == {"id": {"S": "key"}}
    assert callable(layer._get_record)
    assert callable(layer._update_record)


def test_powertools_calls_an_expired_record_expired():
    """lambda_runtime/table/claims.py: _read takes neither status for such a record's."""
    record = DataRecord(idempotency_key="key", status="COMPLETED", expiry_timestamp=1)
    assert record.status == "EXPIRED"


def test_the_extended_client_has_what_is_used_of_it():
    """lambda_celery/payloads.py."""
    before = boto3.session.Session
    session = _extended_session_class()
    assert boto3.session.Session is before
    made = session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-west-1"
    ).client("sqs")
    assert list(inspect.signature(made.store_message_in_s3).parameters)[:2] == [
        "message_body", "message_attributes",
    ]  # fmt: skip
    assert callable(made.retrieve_message_from_s3)


def test_kombu_decodes_json_by_the_function_that_is_there():
    """lambda_celery/decoding.py: else its own way would always be taken."""
    assert registry._decoders["application/json"] is loads


def test_a_signals_handler_and_mask_are_read_and_set_by_the_module_below():
    """lambda_runtime/python_hooks.py."""
    handler = signal.getsignal(signal.SIGUSR2)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))
    try:
        signal.signal(signal.SIGUSR2, print)
        assert python_hooks.signal_handler(signal.SIGUSR2) is print
        python_hooks.unblock_signal(signal.SIGUSR2)
        assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGUSR2, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_an_executor_can_be_abandoned():
    """lambda_runtime/python_hooks.py: the process's end does not wait for its threads."""
    executor = ThreadPoolExecutor(1)
    executor.submit(int).result(30)
    (thread,) = executor._threads
    assert thread in executors._threads_queues
    python_hooks.abandon(executor)
    assert thread not in executors._threads_queues
    thread.join(30)


def test_a_clients_requests_and_repeats_can_be_bounded():
    """aws/bounded.py puts its time-out and its retry handler in the place of botocore's."""
    client = aws.client("sqs", Settings(region="eu-west-1", endpoint_url="http://127.0.0.1:9"))
    timeout = client._endpoint.http_session._manager.connection_pool_kw["timeout"]
    pool = client._endpoint.http_session._manager.connection_from_url("http://127.0.0.1:9")
    assert pool.timeout is timeout, "urllib3's pools no longer take the manager's time-out."
    (handler,) = [
        each
        for each in client.meta.events._emitter._handlers.prefix_search("needs-retry.sqs")
        if "needs_retry" in each.__qualname__
    ]
    assert handler.__name__ == "needs_retry_in_time", "botocore's own retry handler is there too."

    with aws.ending_at(time.time() + 1):
        assert timeout.clone().read_timeout <= 1
        assert timeout.clone().connect_timeout <= 1
    with aws.ending_at(time.time() - 1):
        assert 0 < timeout.clone().read_timeout < 1
    assert timeout.clone().read_timeout == 10


def test_a_running_loop_can_be_hidden():
    """lambda_celery/celery_hooks/running_loop.py: Django's database methods look for it."""
    seen = []

    async def look():
        with running_loop.hidden_loop():
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                seen.append(None)
        seen.append(asyncio.get_running_loop())

    with asyncio.Runner() as runner:
        runner.run(look())
        assert seen == [None, runner.get_loop()]


def test_a_line_is_written_without_giving_the_interpreter_up():
    """lambda_runtime/python_hooks.py: where it can be, and by other means else."""
    reads, writes = os.pipe()
    try:
        assert python_hooks.write_holding_interpreter(writes, b"a line\n")
        assert os.read(reads, 100) == b"a line\n"
        assert not python_hooks.write_holding_interpreter(writes, b"x" * (select.PIPE_BUF + 1))
        os.set_blocking(writes, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writes, b"x" * select.PIPE_BUF)
        assert not python_hooks.write_holding_interpreter(writes, b"it would wait\n")
        os.close(reads)
        assert not python_hooks.write_holding_interpreter(writes, b"nobody reads\n")
    finally:
        os.close(writes)
    assert not python_hooks.write_holding_interpreter(writes, b"it is closed\n")


def test_xrays_sdk_keeps_what_is_under_way_where_it_is_looked_for():
    """lambda_celery/trace_context.py: to ask without one would be an error in the log."""
    pytest.importorskip("aws_xray_sdk")
    from aws_xray_sdk.core.context import Context
    from aws_xray_sdk.core.lambda_launcher import LambdaContext
    from aws_xray_sdk.core.models.segment import Segment

    context = Context()
    assert context.context_missing is not None
    assert not getattr(context._local, "entities", None)
    context.put_segment(Segment("web"))
    assert getattr(context._local, "entities", None)
    assert LambdaContext().context_missing is None
    # All that a context keeps of a thread, which a coroutine takes along.
    assert context._local.__dict__.keys() == {"entities"}
    assert isinstance(context._local.entities, list)


#: ``lambda_runtime/celery_hooks/django_state.py``, in a process that has settings of its own.
DJANGO = """
from django.conf import settings
settings.configure(
    CACHES={name: {"BACKEND": "django.core.cache.backends.dummy.DummyCache"} for name in "ab"},
    DATABASES={name: {
        "ENGINE": "django.db.backends.postgresql", "NAME": "x", "OPTIONS": {"pool": True},
    } for name in ("default", "other")},
    EMAIL_HOST="first",
)
import django
django.setup()
from django.core.cache import caches
from django.db import connection, connections
from django.test.utils import override_settings
from lambda_runtime.celery_hooks import django_state

before = django_state.settings_in_force()
override_settings(EMAIL_HOST="second").enable()
override_settings(EMAIL_HOST="third").enable()
assert settings.EMAIL_HOST == "third"
assert django_state.end_overrides(before) == ["EMAIL_HOST"] * 2
assert settings.EMAIL_HOST == "first"
assert django_state.end_overrides(before) == []

made = caches["b"]
assert django_state.caches_of_context() == {"b": made}

assert not django_state.has_pool(connection)
connection.pool
assert django_state.has_pool(connection)
assert not django_state.has_pool(connections["other"])
assert not django_state.has_pool(object.__new__(type("OfAnother", (), {"alias": "default"})))
"""


def test_django_keeps_settings_pools_and_caches_where_they_are_looked_for():
    subprocess.run([sys.executable, "-c", DJANGO], check=True, timeout=60)
