"""One announcement to a group of N members, run for real, with trouble on purpose.

Real are: SQS, DynamoDB and S3 (ministack on loopback), the Lambda runtime client
(awslambdaric, a process for each concurrent invocation) and SMTP (aiosmtpd). The trouble:
messages sent twice, a mail server that is busy now and then, mails with a 2 MB
attachment, a message that cannot be read, and a process that is killed in mid-batch.

It ends with a table of what became of the mails, and with status 1 where a promise
did not hold.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import django
from rehearsal.outcome import Outcome, Parked, show
from rehearsal.queue_depth import DepthRecorder, draw, measure
from rehearsal.smtp_sink import SmtpSink
from rehearsal.trouble import Killer, WatchedFunction, send_poison
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lambda_celery import aws
from lambda_celery.conf import Settings
from lambda_celery.failures.record import REASON_ATTRIBUTE
from lambda_celery.local.emulator import ministack
from lambda_celery.local.event_source_mapping import EventSourceMapping, EventSourceMappingConfig
from lambda_celery.local.function import LocalFunction
from lambda_celery.local.provision import provision

HERE = Path(__file__).resolve().parent

#: Short, because a killed batch comes back after six times as long and a second.
FUNCTION_TIMEOUT_SECONDS = 5
BATCHING_WINDOW_SECONDS = 1
BATCH_SIZE = 10
CONCURRENCY = 4
REFRESH_SECONDS = 0.2
#: Longer than a killed batch stays hidden: when nothing has come for so long, nothing will.
PATIENCE_SECONDS = 2 * (6 * FUNCTION_TIMEOUT_SECONDS + BATCHING_WINDOW_SECONDS)
ATTACHMENT = os.urandom(2_000_000)
FEWEST_MEMBERS = 40


def main() -> int:
    options = parse_arguments()
    console = Console(file=os.fdopen(os.dup(sys.stdout.fileno()), "w"))
    # A terminated run unwinds like an interrupted one, and leaves no child behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with output_of_children_to(options.log):
            outcome = rehearse(options, console)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 128 + signal.SIGINT
    show(outcome, console)
    console.print(f"Queue depth over time: {options.picture}", soft_wrap=True)
    console.print(f"What the function logged: {options.log}", soft_wrap=True)
    broken = outcome.broken_promises()
    for promise in broken:
        console.print(f"[bold red]Broken:[/] {promise}", highlight=False)
    return 1 if broken else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=10_000, help="how many mails (%(default)s)")
    parser.add_argument(
        "--picture", type=Path, default=HERE / "queue-depth.png", help="where to save the picture"
    )
    parser.add_argument(
        "--log", type=Path, default=HERE / "function.log", help="where to save the function's logs"
    )
    parser.add_argument(
        "--refuse-for-good",
        type=int,
        default=0,
        metavar="N",
        help="let the mail server refuse N members for ever: these are parked, and the run fails",
    )
    options = parser.parse_args()
    if options.members < FEWEST_MEMBERS:
        parser.error(f"--members must be {FEWEST_MEMBERS} or more, to have room for the trouble")
    return options


@contextmanager
def output_of_children_to(path: Path) -> Iterator[None]:
    """Point the file descriptors that child processes inherit to *path*.

    Lambda's logs go to CloudWatch; on the terminal they would run across the bars.
    """
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as log:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def rehearse(options: argparse.Namespace, console: Console) -> Outcome:
    """Run everything, and return what became of it."""
    with ExitStack() as stack:
        console.print("Starting the mail server and an emulated AWS …")
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        repeat_every = one_in(100, options.members)
        # Of those whose mail is sent once: a copy of what was refused is tried, and parked, too.
        once = (n for n in range(options.members) if n % repeat_every)
        refused = [f"member-{n}@example.org" for n in islice(once, options.refuse_for_good)]
        sink = stack.enter_context(SmtpSink(one_in(200, options.members), refused))
        endpoint = stack.enter_context(ministack())
        set_environment(endpoint, sink, scratch)
        django.setup()

        # Not at the top: models and tasks can be imported only now.
        from proj.celery import app
        from rehearsal.campaign import QUEUE_OF_COPIES, Campaign

        settings = Settings.from_app(app)
        provision(
            settings,
            function_timeout_seconds=FUNCTION_TIMEOUT_SECONDS,
            maximum_batching_window_seconds=BATCHING_WINDOW_SECONDS,
        )
        sqs, s3 = aws.client("sqs", settings), aws.client("s3", settings)
        campaign = Campaign(
            options.members,
            repeat_every,
            ATTACHMENT,
            sqs=sqs,
            queue_url=settings.queue_url,
            copies_url=settings.queues[QUEUE_OF_COPIES].url,
        )
        local_function = LocalFunction(
            timeout_seconds=FUNCTION_TIMEOUT_SECONDS,
            maximum_concurrency=CONCURRENCY,
            working_directory=HERE,
            # A mail that was sent twice is retried with the others.
            environment={"LAMBDA_CELERY_QUEUES": json.dumps({QUEUE_OF_COPIES: settings.queue_url})},
        )
        function = WatchedFunction(stack.enter_context(local_function))
        sink.on_accepted = killer = Killer(function, after=options.members // 10)
        mapping = EventSourceMapping(
            settings.queue_url,
            function,
            EventSourceMappingConfig(BATCH_SIZE, BATCHING_WINDOW_SECONDS, CONCURRENCY),
            sqs,
        )
        depth = stack.enter_context(DepthRecorder(sqs, settings.queue_url))

        start = time.monotonic()
        with bars(console) as progress:
            send_poison(sqs, settings.queue_url)
            for _ in progress.track(campaign.send(), options.members, description="sent to SQS"):
                pass
            all_sent = time.monotonic()
            # Only now, since here the producer and the function share a machine's cores.
            with mapping:
                # And the mail that reports it.
                delivered = progress.add_task("delivered", total=options.members + 1)
                for arrived in arrivals(sink, depth):
                    progress.update(delivered, completed=arrived)
        end = time.monotonic()

        marks = {"all sent": all_sent}
        if killer.killed_at_seconds is not None:
            marks["process killed"] = killer.killed_at_seconds
        draw(depth.samples, marks, options.picture)
        return Outcome(
            enqueued=campaign.enqueued,
            repeated=campaign.repeated,
            report_to=campaign.report_to,
            accepted=sink.accepted,
            refused=sink.refused,
            parked=receive_all(sqs, settings.dead_letter_queue_url),
            left_on_queue=measure(sqs, settings.queue_url),
            killed_process_id=killer.process_id,
            killed_batch=killer.batch,
            with_attachment=campaign.with_attachment,
            attachment_bytes=len(ATTACHMENT),
            objects_in_s3=objects_in(s3, settings.payload_bucket),
            enqueue_seconds=all_sent - start,
            seconds=end - start,
        )


def arrivals(sink: SmtpSink, depth: DepthRecorder) -> Iterator[int]:
    """Yield how many mails have arrived, until the queue is empty or nothing moves any more.

    It is empty when the retries, the repeated messages, the killed batch and the poison
    are settled too.
    """
    arrived, last_news = 0, time.monotonic()
    while not depth.wait_until_empty(REFRESH_SECONDS):
        if sink.arrived > arrived:
            arrived, last_news = sink.arrived, time.monotonic()
        elif time.monotonic() - last_news > PATIENCE_SECONDS:
            break
        yield arrived
    sink.stop()
    yield sink.arrived


def one_in(normally: int, members: int) -> int:
    """Return how rare something is that is to happen a few times in a small group too."""
    return max(2, min(normally, members // 5))


def set_environment(endpoint: str, sink: SmtpSink, scratch: Path) -> None:
    """Set what the project's settings, the producer and the function have in common."""
    for name in list(os.environ):
        # The demo must never find a real AWS account, nor a real deployment's queue.
        if name.startswith(("AWS_", "LAMBDA_CELERY_")):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "DJANGO_SETTINGS_MODULE": "proj.settings",
        "DATABASE_PATH": str(scratch / "db.sqlite3"),
        "CELERY_EMAIL_BACKEND": "rehearsal.delivery.EmailBackend",
        "EMAIL_HOST": sink.host,
        "EMAIL_PORT": str(sink.port),
        "LAMBDA_CELERY_APP": "proj.celery:app",
        "LAMBDA_CELERY_ENDPOINT_URL": endpoint,
        # What is to be sent twice is taken from a queue that nothing consumes.
        "LAMBDA_CELERY_QUEUES": json.dumps({"copies": f"{endpoint}/000000000000/copies"}),
        # The poison's five receives are to be over soon.
        "LAMBDA_CELERY_RETRY_BACKOFF_SECONDS": "1",
        "LAMBDA_CELERY_RETRY_BACKOFF_MAX_SECONDS": "4",
    }


def bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>11}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def receive_all(sqs: Any, queue_url: str) -> list[Parked]:
    """Take every message from a queue."""
    taken: list[Parked] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        for message in messages:
            reason = message.get("MessageAttributes", {}).get(REASON_ATTRIBUTE, {})
            taken.append(Parked(message["Body"], reason.get("StringValue")))
    return taken


def objects_in(s3: Any, bucket: str) -> int:
    return s3.list_objects_v2(Bucket=bucket)["KeyCount"]


if __name__ == "__main__":
    sys.exit(main())
