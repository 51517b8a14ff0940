"""What leaves for SQS: which tasks, how, and what is refused."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError
from celery import Celery, chain, chord, group, shared_task, signals
from celery.app.amqp import AMQP
from kombu import Exchange, Queue
from kombu.exceptions import EncodeError, OperationalError

import lambda_celery
from lambda_celery import ConfigurationError, PublishError, install
from lambda_celery.celery_hooks.amqp import SQSRouting
from lambda_celery.envelope import read_envelope, read_message
from lambda_celery.payloads import _extended_session_class
from lambda_celery.publishing import transport


def headers(runtime, message):
    return read_message(read_envelope(message["Body"]), runtime.app.conf.accept_content, {}).headers


class TestDoors:
    """The app's broker is RabbitMQ, at an address where nobody listens."""

    def test_the_decorator_moves_one_task(self, make_runtime):
        runtime = make_runtime(lambda_tasks=[])

        @lambda_celery.task(name="proj.decorated", rate="typo is kept")
        def send(address):
            return address

        @runtime.task
        def stays():
            """Goes to RabbitMQ."""

        send.delay("ann@example.org")
        with pytest.raises(OperationalError):
            stays.apply_async(retry=False)

        (message,) = runtime.receive()
        assert headers(runtime, message)["task"] == "proj.decorated"
        assert send.rate == "typo is kept"
        assert send.app is runtime.app
        assert runtime.app.tasks["proj.decorated"] is send._get_current_object()
        assert send("bob@example.org") == "bob@example.org"
        assert send.apply(("bob@example.org",)).get() == "bob@example.org"

    def test_canvas_and_retries_follow_the_task_although_they_bring_a_producer(self, make_runtime):
        runtime = make_runtime(lambda_tasks=["proj.mail.*"])

        @runtime.task(name="proj.mail.send")
        def send(*args):
            return 1

        group(send.s(1), send.s(2)).delay()
        chain(send.s(3), send.s(4)).delay()
        send.s(5).apply_async()
        runtime.app.send_task("proj.mail.send", (6,))
        assert len(runtime.receive(5)) == 5

    def test_what_celery_itself_runs_for_a_task_goes_the_same_way(self, make_runtime, tmp_path):
        # A result back end that cannot count has its chords watched by a task.
        runtime = make_runtime(lambda_tasks=["proj.mail.*"], result_backend=f"file://{tmp_path}")

        @runtime.task(name="proj.mail.send")
        def send(*args):
            return 1

        chord([send.s(1), send.s(2)])(send.s())
        send.map([1, 2]).delay()
        send.starmap([(1, 2)]).delay()
        names = [headers(runtime, message)["task"] for message in runtime.receive(5, 15)]
        assert sorted(names) == [
            "celery.chord_unlock", "celery.map", "celery.starmap", "proj.mail.send",
            "proj.mail.send",
        ]  # fmt: skip

    def test_the_setting_moves_tasks_by_name_without_touching_their_code(self, make_runtime):
        runtime = make_runtime(lambda_tasks=["proj.mail.*"])

        @runtime.task(name="proj.mail.send")
        def send():
            """Goes to SQS."""

        @runtime.task(name="proj.report")
        def report():
            """Goes to RabbitMQ."""

        send.delay()
        with pytest.raises(OperationalError):
            report.apply_async(retry=False)
        (message,) = runtime.receive()
        assert headers(runtime, message)["task"] == "proj.mail.send"

    def test_a_task_can_be_kept_back_from_the_setting(self, make_runtime):
        runtime = make_runtime(lambda_tasks=["*"])

        @runtime.task(lambda_celery=False)
        def stays():
            """Goes to RabbitMQ."""

        with pytest.raises(OperationalError):
            stays.apply_async(retry=False)

    def test_the_transport_moves_the_whole_broker(self, runtime):
        app = Celery("moved", set_as_current=True)
        app.conf.update(
            broker_transport="lambda_celery.transport:Transport",
            **{name: runtime.app.conf[name] for name in (
                "lambda_queue_url", "lambda_payload_bucket", "lambda_endpoint_url", "lambda_region",
            )},
        )  # fmt: skip

        @app.task(name="proj.send", shared=False)
        def send(text):
            """Anything."""

        send.delay("small")
        send.apply_async(("x" * 2_000_000,), countdown=1)
        messages = runtime.receive(2)
        sizes = sorted(len(message["Body"]) for message in messages)
        assert sizes[0] < 300 < sizes[1]

    def test_the_transport_takes_kombus_predefined_queues(self, runtime):
        app = Celery("moved", set_as_current=True)
        app.conf.update(
            broker_transport="lambda_celery.transport:Transport",
            broker_transport_options={
                "region": runtime.settings.region,
                "predefined_queues": {"celery": {"url": runtime.settings.queue_url}},
            },
        )
        app.send_task("proj.send")
        assert len(runtime.receive()) == 1

    def test_eager_mode_can_be_switched_on_at_run_time(self, runtime):
        ran = []

        @lambda_celery.task(name="proj.eager")
        def send():
            ran.append(1)

        send.delay()
        runtime.app.conf.task_always_eager = True
        assert send.delay().state == "SUCCESS"
        runtime.app.conf.task_always_eager = False
        assert ran == [1]
        assert len(runtime.receive()) == 1

    def test_install_does_not_lose_an_amqp_class_of_the_apps_own(self, stack):
        class OwnAMQP(AMQP):
            pass

        app = Celery("own", amqp=OwnAMQP, set_as_current=False)
        install(app)
        install(app)
        assert isinstance(app.amqp, OwnAMQP)
        assert len([cls for cls in type(app.amqp).__mro__ if cls is SQSRouting]) == 1

    def test_signals_of_publishing_are_sent_and_may_change_headers(self, runtime):
        @runtime.task
        def send():
            """Anything."""

        def stamp(headers=None, **kwargs):
            headers["x-stamp"] = "1"

        signals.before_task_publish.connect(stamp)
        try:
            send.delay()
        finally:
            signals.before_task_publish.disconnect(stamp)
        (message,) = runtime.receive()
        assert headers(runtime, message)["x-stamp"] == "1"


class TestQueues:
    def test_a_named_queue_has_its_own_url(self, make_runtime, make_stack):
        other = make_stack()
        runtime = make_runtime(lambda_queues={"bulk": other.queue_url})

        @runtime.task
        def send():
            """Anything."""

        send.apply_async(queue="bulk")
        send.apply_async(queue="anything else")
        assert len(runtime.receive()) == 1
        assert len(other.messages()) == 1

    def test_publishing_asks_the_queue_once_and_lists_and_creates_nothing(self, runtime, faults):
        @runtime.task
        def send():
            """Anything."""

        calls = {
            name: faults.watch(runtime.settings, "sqs", name)
            for name in ("GetQueueAttributes", "ListQueues", "CreateQueue", "GetQueueUrl")
        }
        for _ in range(3):
            send.delay()
        assert {name: len(seen) for name, seen in calls.items()} == {
            "GetQueueAttributes": 1, "ListQueues": 0, "CreateQueue": 0, "GetQueueUrl": 0,
        }  # fmt: skip


class TestPriorities:
    """SQS has none: a queue stands for them, or the call is refused."""

    @pytest.fixture
    def urgent(self, make_stack):
        return make_stack()

    @pytest.fixture
    def send(self, make_runtime, urgent):
        runtime = make_runtime(
            task_default_queue="mail",
            lambda_queues={"urgent": urgent.queue_url},
            lambda_priority_queues={"mail": {6: "urgent"}},
        )

        @runtime.task
        def send():
            """It is only sent."""

        send.runtime = runtime
        return send

    @pytest.mark.parametrize("priority", [6, 9])
    def test_from_the_lowest_that_a_queue_is_named_for(self, send, urgent, priority):
        send.apply_async(priority=priority)
        # Or whoever names that queue.
        send.apply_async(priority=priority, queue="urgent")
        assert (urgent.depth(), send.runtime.stack.depth()) == (2, 0)

    @pytest.mark.parametrize("priority", [None, 0, 5])
    def test_below_it_is_the_queue_itself(self, send, urgent, priority):
        send.apply_async(priority=priority)
        assert (urgent.depth(), send.runtime.stack.depth()) == (0, 1)

    def test_of_the_task_counts_like_one_of_the_call(self, send, urgent):
        @send.runtime.task(priority=9)
        def hurry():
            """It is only sent."""

        hurry.delay()
        assert urgent.depth() == 1

    def test_without_a_queue_for_it_is_refused_in_a_sentence(self, send, urgent):
        with pytest.raises(PublishError, match=r"lambda_priority_queues"):
            send.apply_async(queue="other", priority=3)
        assert (urgent.depth(), send.runtime.stack.depth()) == (0, 0)

    def test_of_the_whole_project_is_no_wish_of_a_call(self, make_runtime, caplog):
        transport._tell_of_default_priority.cache_clear()  # of other tests in this process
        runtime = make_runtime(task_default_priority=5)
        ran = []

        @runtime.task(bind=True, max_retries=1, default_retry_delay=0)
        def send(self):
            ran.append(self.request.retries)
            if not self.request.retries:
                self.retry()

        send.delay()
        runtime.app.send_task(send.name, priority=5)
        assert caplog.text.count("task_default_priority is 5, but SQS has no priorities") == 1
        with pytest.raises(PublishError, match="priority 6"):
            send.apply_async(priority=6)
        while len(ran) < 4:
            assert runtime.deliver().all_deleted
        assert sorted(ran) == [0, 0, 1, 1]

    def test_of_the_whole_project_leads_to_the_queue_that_is_named_for_it(
        self, make_runtime, urgent
    ):
        runtime = make_runtime(
            task_default_priority=5,
            lambda_queues={"urgent": urgent.queue_url},
            lambda_priority_queues={"celery": {5: "urgent"}},
        )

        @runtime.task
        def send():
            """It is only sent."""

        send.delay()
        assert urgent.depth() == 1

    def test_that_has_the_same_queue_as_all_others_is_refused(self, make_runtime):
        runtime = make_runtime(lambda_priority_queues={"celery": {6: "urgent"}})
        with pytest.raises(PublishError, match="both are the same SQS queue"):
            runtime.app.send_task("send", priority=6)

    def test_of_what_a_running_task_sends_on_it_is_too_late_to_refuse(self, make_runtime):
        runtime = make_runtime()
        ran = []

        @runtime.task
        def step(n):
            ran.append(n)

        # As a producer has published it that knows other priorities, or none.
        (step.si(1) | step.si(2).set(priority=5)).delay()
        assert runtime.deliver().all_deleted
        assert runtime.deliver().all_deleted
        assert ran == [1, 2]

    def test_by_the_transport_too(self, send, urgent):
        app = send.runtime.app
        app.conf.update(lambda_tasks=[], broker_transport="lambda_celery.transport:Transport")
        send.apply_async(priority=9)
        assert urgent.depth() == 1


class TestRedaction:
    """Arguments are addresses: with the setting, nothing but the body holds them."""

    def test_headers_name_no_arguments(self, make_runtime):
        runtime = make_runtime(lambda_redact_arguments=True)

        @runtime.task(name="send")
        def send(address, subject=None):
            ran.append((address, subject))

        ran = []
        send.delay("ada@example.com", subject="secret")
        (message,) = runtime.receive()
        sent = headers(runtime, message)
        assert (sent["argsrepr"], sent["kwargsrepr"]) == ("<redacted>", "<redacted>")
        assert runtime.hand_over([message]).all_deleted
        assert ran == [("ada@example.com", "secret")]

    def test_logs_and_requests_name_none_although_the_publisher_did(self, make_runtime, caplog):
        publisher = make_runtime().app
        runtime = make_runtime(lambda_redact_arguments=True)
        seen = []

        @runtime.task(name="send", bind=True)
        def send(self, address):
            seen.append(self.request.argsrepr)

        caplog.set_level("DEBUG")
        publisher.send_task("send", ("ada@example.com",))
        assert runtime.deliver().all_deleted
        assert seen == ["<redacted>"]
        records = [each.__dict__ for each in caplog.records if "celery" in each.name]
        assert records
        assert "ada@example.com" not in repr(records)


class TestBigBodies:
    def test_small_ones_stay_on_the_queue_and_what_the_queue_refuses_goes_to_s3(
        self, runtime, monkeypatch
    ):
        @runtime.task
        def send(text):
            """Anything."""

        for size in (500_000, 700_000):  # base64 twice: 16/9 of it
            send.delay("x" * size)
        bodies = sorted((m["Body"] for m in runtime.receive(2)), key=len)
        assert bodies[0].startswith('["software.amazon.payloadoffloading.PayloadS3Pointer"')
        assert 880_000 < len(bodies[1]) < 1_048_576

    def test_the_queues_own_lower_limit_counts(self, runtime):
        runtime.sqs.set_queue_attributes(
            QueueUrl=runtime.settings.queue_url, Attributes={"MaximumMessageSize": "2048"}
        )

        @runtime.task
        def send(text):
            """Anything."""

        send.delay("x" * 2048)
        (message,) = runtime.receive()
        assert "ExtendedPayloadSize" in message["MessageAttributes"]

    def test_the_threshold_can_be_set_lower(self, make_runtime):
        runtime = make_runtime(lambda_payload_threshold_bytes=0)

        @runtime.task
        def send():
            return "ran"

        send.delay()
        (message,) = runtime.receive()
        assert "ExtendedPayloadSize" in message["MessageAttributes"]
        assert runtime.hand_over([message]).all_deleted

    def test_without_a_bucket_it_is_refused_with_the_setting_to_set(self, make_runtime):
        runtime = make_runtime(lambda_payload_bucket=None)

        @runtime.task
        def send(text):
            """Anything."""

        with pytest.raises(PublishError, match="lambda_payload_bucket"):
            send.delay("x" * 2_000_000)
        assert runtime.stack.depth() == 0

    def test_the_extended_clients_own_client_reads_ours(self, runtime):
        @runtime.task
        def send(text):
            """Anything."""

        send.delay("x" * 2_000_000)
        theirs = extended_client(runtime)
        (message,) = theirs.receive_message(QueueUrl=runtime.settings.queue_url, WaitTimeSeconds=5)[
            "Messages"
        ]
        assert len(message["Body"]) > 2_000_000
        assert headers(runtime, message)["task"].endswith("send")

    def test_ours_reads_what_the_extended_clients_own_client_sent(self, runtime):
        ran = []

        @runtime.task
        def send(text):
            ran.append(len(text))

        send.delay("x" * 300_000)
        (message,) = runtime.receive()
        theirs = extended_client(runtime)
        theirs.large_payload_support = runtime.settings.payload_bucket
        theirs.send_message(QueueUrl=runtime.settings.queue_url, MessageBody=message["Body"])
        (pointer,) = runtime.receive()
        assert len(pointer["Body"]) < 300
        assert runtime.hand_over([pointer]).all_deleted
        assert ran == [300_000]

    def test_boto3s_session_stays_what_it_was(self, runtime):
        before = boto3.Session, boto3.session.Session, boto3.DEFAULT_SESSION

        @runtime.task
        def send(text):
            """Anything."""

        send.delay("x" * 2_000_000)
        assert (boto3.Session, boto3.session.Session, boto3.DEFAULT_SESSION) == before
        assert not hasattr(boto3.client("sqs"), "large_payload_support")

    def test_an_object_in_another_bucket_is_not_deleted(self, make_runtime, make_stack):
        other = make_stack()
        sender = make_runtime(
            lambda_payload_bucket=other.settings.payload_bucket, lambda_payload_threshold_bytes=0
        )

        @sender.task(name="proj.send")
        def send():
            return "ran"

        send.delay()
        (message,) = sender.receive()
        runtime = make_runtime(lambda_extra_payload_buckets=[other.settings.payload_bucket])

        @runtime.task(name="proj.send")
        def received():
            return "ran"

        assert runtime.hand_over([message]).all_deleted
        assert other.s3.list_objects_v2(Bucket=other.settings.payload_bucket)["KeyCount"] == 1


def extended_client(runtime):
    """A client of the library's own class, with the endpoint that it does not pass on."""
    settings = runtime.settings
    client = _extended_session_class()(region_name=settings.region).client(
        "sqs", endpoint_url=settings.endpoint_url
    )
    client.s3_client = boto3.client("s3")
    return client


class TestRefusals:
    def test_arguments_that_cannot_be_serialised_fail_before_anything_is_sent(
        self, runtime, faults
    ):
        sent = faults.watch(runtime.settings, "sqs", "SendMessage")

        @runtime.task
        def send(thing):
            """Anything."""

        with pytest.raises((EncodeError, TypeError)):
            send.delay(object())
        assert sent == []

    def test_wrong_arguments_fail_in_delay(self, runtime):
        @runtime.task
        def send(address):
            """Anything."""

        with pytest.raises(TypeError):
            send.delay()

    def test_a_queue_that_does_not_exist(self, make_runtime, aws_endpoint):
        runtime = make_runtime(lambda_queue_url=f"{aws_endpoint}/000000000000/nowhere")
        with pytest.raises(PublishError, match=r"nowhere does not exist.*lambda_queue_url"):
            runtime.app.send_task("proj.send")

    def test_no_queue_at_all(self, make_runtime):
        runtime = make_runtime(lambda_queue_url=None)
        with pytest.raises(ConfigurationError, match="LAMBDA_CELERY_QUEUE_URL"):
            runtime.app.send_task("proj.send")

    @pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
    def test_a_missing_permission_names_the_action_and_has_no_stack_of_botocores(
        self, runtime, faults, code
    ):
        faults.fail(runtime.settings, "sqs", "SendMessage", code, status=403)
        with pytest.raises(PublishError, match="allow sqs:SendMessage") as raised:
            runtime.app.send_task("proj.send")
        assert raised.value.__suppress_context__
        assert raised.value.__cause__ is None

    def test_a_missing_permission_on_the_bucket(self, make_runtime, faults):
        runtime = make_runtime(lambda_payload_threshold_bytes=0)
        faults.fail(runtime.settings, "s3", "PutObject", "AccessDenied", status=403)
        with pytest.raises(PublishError, match="allow s3:PutObject"):
            runtime.app.send_task("proj.send")
        assert runtime.stack.depth() == 0

    def test_a_producer_that_may_only_send_can_send(self, runtime, faults):
        faults.fail(runtime.settings, "sqs", "GetQueueAttributes", "AccessDenied", status=403)
        runtime.app.send_task("proj.send")
        assert len(runtime.receive()) == 1

    @pytest.mark.parametrize("debug", [False, True])
    def test_what_aws_refuses_raises(self, make_runtime, faults, debug):
        runtime = make_runtime(lambda_debug=debug)
        faults.fail(runtime.settings, "sqs", "SendMessage", "InternalError", status=500)
        with pytest.raises(OperationalError, match="InternalError") as raised:
            runtime.app.send_task("proj.send")
        assert isinstance(raised.value.__cause__, ClientError) is debug


def test_a_shared_task_of_celery_is_found_by_the_setting(make_runtime):
    runtime = make_runtime(lambda_tasks=["proj.shared.*"])

    @shared_task(name="proj.shared.send")
    def send():
        """Anything."""

    send.delay()
    assert len(runtime.receive()) == 1


class TestExchangesOfAnotherBroker:
    """A project on RabbitMQ may name exchanges, which SQS does not have."""

    @pytest.fixture
    def send(self, make_runtime):
        def make(**conf):
            runtime = make_runtime(**conf)

            @runtime.task(name="proj.send")
            def send():
                """Anything."""

            return runtime, send

        return make

    def test_a_topic_exchange_by_default(self, send):
        runtime, task = send(task_default_exchange="x", task_default_exchange_type="topic")
        task.delay()
        assert len(runtime.receive()) == 1

    def test_a_queue_with_an_exchange_of_its_own(self, send, make_stack):
        other = make_stack()
        _, task = send(
            task_queues=[Queue("mail", Exchange("mailx", type="topic"), routing_key="mail.#")],
            task_routes={"proj.send": {"queue": "mail"}},
            lambda_queues={"mail": other.queue_url},
        )
        task.delay()
        assert len(other.messages()) == 1

    @pytest.mark.parametrize(
        "route",
        [
            {"exchange": "office", "routing_key": "mail.send"},
            {"exchange": Exchange("office", type="topic"), "routing_key": "mail.send.now"},
            {"exchange": "celery_delayed_27", "routing_key": "0." * 28 + "mail.send"},
            {"queue": "mail"},
            # By the key, as on a broker, although another queue of the exchange is named.
            {"queue": "reports", "routing_key": "mail.send"},
            {"exchange": "street", "routing_key": "ignored-by-a-fanout"},
            {"exchange": "house", "routing_key": "exactly"},
        ],
    )
    def test_routes_to_an_exchange(self, send, route):
        office = Exchange("office", type="topic")
        mail = Queue("mail", office, routing_key="mail.#")
        runtime, task = send(
            task_queues=[
                mail,
                Queue("reports", office, routing_key="report.*"),
                Queue("street", Exchange("street", type="fanout")),
                Queue("house", Exchange("house"), routing_key="exactly"),
            ]
        )
        task.apply_async(**route)
        (message,) = runtime.receive()
        info = read_message(read_envelope(message["Body"]), ["json"], {}).delivery_info
        expected = route.get("exchange") if route.get("exchange") in ("street", "house") else "mail"
        assert info == {"exchange": "", "routing_key": expected}

    @pytest.mark.parametrize(
        ("route", "sentence"),
        [
            ({"exchange": "unknown", "routing_key": "unknown"}, "No queue is bound"),
            ({"exchange": "office", "routing_key": "report.a"}, "to the queues reports, all, but"),
            # Bound by "report.*", which takes one word.
            ({"exchange": "office", "routing_key": "mail"}, "No queue is bound"),
            ({"queue": "reports", "routing_key": "mail"}, "No queue is bound"),
        ],
    )
    def test_a_route_to_no_queue_or_to_several_is_refused(self, send, route, sentence):
        office = Exchange("office", type="topic")
        runtime, task = send(
            task_queues=[
                Queue("reports", office, routing_key="report.*"),
                Queue("all", office, routing_key="report.#"),
            ]
        )
        with pytest.raises(PublishError, match=sentence):
            task.apply_async(**route)
        assert runtime.stack.depth() == 0

    def test_the_transport_refuses_a_task_that_no_queue_is_bound_for(self, runtime):
        app = Celery("moved", set_as_current=True)
        app.conf.update(
            broker_transport="lambda_celery.transport:Transport",
            lambda_queue_url=runtime.settings.queue_url,
            lambda_region=runtime.settings.region,
        )
        with pytest.raises(PublishError, match="No queue is bound"):
            app.send_task("proj.send", exchange="nowhere", routing_key="nothing", declare=[])

    def test_sent_events_do_not_disturb(self, send):
        runtime, task = send(task_send_sent_event=True)
        task.delay()
        assert len(runtime.receive()) == 1


def test_a_task_published_by_name_before_its_app_is_finalised_takes_the_same_way(make_runtime):
    runtime = make_runtime(lambda_tasks=[])

    @lambda_celery.task(name="proj.by_name")
    def send():
        """Anything."""

    assert not runtime.app.finalized
    runtime.app.send_task("proj.by_name")
    assert len(runtime.receive()) == 1


def test_a_queue_is_fifo_by_its_url(make_runtime, make_stack):
    fifo = make_stack(suffix=".fifo")
    runtime = make_runtime(lambda_queue_url=fifo.queue_url)
    runtime.app.send_task("proj.send")
    (message,) = runtime.receive()
    assert message["Attributes"]["MessageGroupId"] == "default"
