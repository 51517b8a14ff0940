"""``celery -A proj lambda local`` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import boto3
import pytest

from lambda_celery.local.emulator import HOST, ministack
from lambda_celery.status.local_run import LocalRun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

CELERY_PROJECT = """
from celery import Celery

app = Celery("proj")
app.conf.lambda_queue_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
"""

DJANGO_PROJECT = """
import os
import sys

from celery import Celery
from django.conf import settings

if not settings.configured:
    settings.configure(
        CELERY_LAMBDA_QUEUES={
            "mail": "https://sqs.eu-west-1.amazonaws.com/123456789012/mail",
            "bulk": "https://sqs.eu-west-1.amazonaws.com/123456789012/bulk",
        }
    )
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
"""

#: "hang" hangs until the file "go" is there; every message is noted when it is done.
HANDLER = """
import os, pathlib, time

def handler(event, context):
    for record in event["Records"]:
        print("RUNNING", record["body"], os.getpid(), flush=True)
        while record["body"] == "hang" and not os.path.exists("go"):
            time.sleep(0.01)
        print("DONE", record["body"], os.environ["LAMBDA_CELERY_APP"], flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Command:
    """The command in a process of its own, and what it has printed."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        app: str = "proj",
        of_celery: tuple[str, ...] = (),
        on_terminal: bool = False,
        **environ: str,
    ) -> None:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "LAMBDA_CELERY_", "CELERY_", "DJANGO_"))
        }
        self.port = free_port()
        self.output: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A terminal's two ends: the command has one, and its output is read from the other.
        ours, its = pty.openpty() if on_terminal else (None, subprocess.PIPE)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", app, *of_celery, "lambda", "local"),
                *("--handler", "lambda_module.handler", "--port", str(self.port), *options),
            ],
            cwd=directory,
            env=clean | {"AWS_CONFIG_FILE": os.devnull} | environ,
            stdout=its,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._output: IO[str] | None = self.process.stdout
        if ours is not None:
            os.close(its)
            self._output = os.fdopen(ours, errors="replace")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._output is not None
        with suppress(OSError):  # how a terminal says that its other end is closed
            for line in self._output:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of *pattern* in the next line that has one."""
        while True:
            try:
                line = self._lines.get(timeout=60)
            except queue.Empty:
                line = None
            assert line is not None, f"no {pattern!r} in:\n" + "\n".join(self.output)
            self.output.append(line)
            if match := re.search(pattern, line):
                return match

    def exports(self) -> dict[str, str]:
        """Return the variables that the command tells a publisher to export."""
        line = self.wait_for(r"^  export (.*)")[1]
        return dict(each.split("=", 1) for each in shlex.split(line))

    def wait(self) -> int:
        """Return the exit status; the rest of what was printed goes to ``output``."""
        status = self.process.wait(60)
        self._reader.join(60)
        while (line := self._lines.get()) is not None:
            self.output.append(line)
        return status

    def child_pids(self) -> set[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self._output is not None
        self._output.close()


StartCommand = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartCommand]:
    (tmp_path / "proj.py").write_text(CELERY_PROJECT)
    (tmp_path / "lambda_module.py").write_text(HANDLER)
    commands: list[Command] = []

    def start(*options: str, **environ: Any) -> Command:
        commands.append(Command(tmp_path, *options, **environ))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


def send(exports: dict[str, str], queue_url: str, *bodies: str) -> None:
    sqs = boto3.session.Session(
        exports["AWS_ACCESS_KEY_ID"],
        exports["AWS_SECRET_ACCESS_KEY"],
        region_name=exports.get("AWS_DEFAULT_REGION", "eu-west-1"),
    ).client("sqs", endpoint_url=exports["AWS_ENDPOINT_URL"])
    for body in bodies:
        sqs.send_message(QueueUrl=queue_url, MessageBody=body)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone, or gone while being read
        return True


MAIL = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
BULK = "https://sqs.eu-west-1.amazonaws.com/123456789012/bulk"


def test_boto3_calls_the_function_with_the_exports(start: StartCommand, tmp_path: Path) -> None:
    (tmp_path / "lambda_module.py").write_text(
        """
import os, time

def handler(event, context):
    print("RUNNING", event, flush=True)
    while event == "hang" and not os.path.exists("go"):
        time.sleep(0.01)
    return [event, os.environ["AWS_ENDPOINT_URL_LAMBDA"]]
"""
    )
    command = start()
    exports = command.exports()
    code = (
        "import boto3, sys; print(boto3.client('lambda').invoke("
        "FunctionName='lambda-celery-local', Payload=sys.argv[1])['Payload'].read().decode())"
    )

    def call(event: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(event)],
            env={**os.environ, **exports},
            stdout=subprocess.PIPE,
            text=True,
        )

    endpoint = exports["AWS_ENDPOINT_URL_LAMBDA"]
    assert f"{endpoint} (the function lambda-celery-local)" in "\n".join(command.output)
    assert json.loads(call("one").communicate(timeout=60)[0]) == ["one", endpoint]
    hanging = call("hang")
    command.wait_for("RUNNING hang")
    command.process.send_signal(signal.SIGINT)
    command.wait_for("Stopping")
    (tmp_path / "go").touch()
    # What runs may finish, and its caller has the answer.
    assert json.loads(hanging.communicate(timeout=60)[0]) == ["hang", endpoint]
    assert command.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_invocations_finish_and_ends_every_child(
    start: StartCommand, tmp_path: Path, number: signal.Signals
) -> None:
    command = start()
    # The queue URL is the one in the project's settings: the exports make it the emulator's.
    send(command.exports(), MAIL, "hang")
    running = int(command.wait_for(r"RUNNING hang (\d+)")[1])
    children = command.child_pids()
    assert running in children
    assert len(children) == 2  # the emulator is the other

    command.process.send_signal(number)
    command.wait_for("Stopping")
    assert not ended(running)
    (tmp_path / "go").touch()

    assert command.wait() == 0
    assert "DONE hang proj" in command.output
    assert all(map(ended, children))


def test_managed_instances_run_two_batches_in_one_environment(
    start: StartCommand, tmp_path: Path
) -> None:
    command = start("--per-execution-environment-max-concurrency", "2", "--timeout", "1000")
    exports = command.exports()
    send(exports, MAIL, "hang")
    running = int(command.wait_for(r"RUNNING hang (\d+)")[1])
    send(exports, MAIL, "other")
    command.wait_for("DONE other")

    children = command.child_pids()
    assert running not in children  # awslambdaric is, which has forked it
    assert len(children) == 2
    assert "up to 2 in an environment (Lambda Managed Instances)" in "\n".join(command.output)
    (tmp_path / "go").touch()
    command.process.send_signal(signal.SIGINT)
    assert command.wait() == 0
    assert "DONE hang proj" in command.output
    assert ended(running)


def test_a_second_ctrl_c_kills(start: StartCommand) -> None:
    command = start()
    send(command.exports(), MAIL, "hang")
    command.wait_for("RUNNING hang")
    children = command.child_pids()

    command.process.send_signal(signal.SIGINT)
    command.wait_for("Stopping")
    command.process.send_signal(signal.SIGINT)

    assert command.wait() == 0
    assert "Killing the running invocations." in command.output
    assert not any(line.startswith("DONE") for line in command.output)
    assert all(map(ended, children))


def test_ctrl_c_in_a_terminal_reaches_the_whole_process_group(
    start: StartCommand, tmp_path: Path
) -> None:
    command = start()
    send(command.exports(), MAIL, "hang")
    running = int(command.wait_for(r"RUNNING hang (\d+)")[1])

    # None of the children is in the group that a terminal signals.
    groups = {os.getpgid(pid) for pid in command.child_pids()}

    assert os.getpgid(running) in groups
    assert os.getpgid(command.process.pid) not in groups
    (tmp_path / "go").touch()
    command.process.send_signal(signal.SIGINT)
    assert command.wait() == 0


def test_every_child_ends_when_the_command_is_killed(start: StartCommand) -> None:
    command = start()
    send(command.exports(), MAIL, "hang")
    command.wait_for("RUNNING hang")
    children = command.child_pids()
    assert len(children) == 2

    command.process.kill()

    for pid in children:
        for _ in range(600):
            if ended(pid):
                break
            threading.Event().wait(0.05)
        assert ended(pid)


def test_the_project_is_read_only_unless_a_path_is_named(
    start: StartCommand, tmp_path: Path
) -> None:
    (tmp_path / "lambda_module.py").write_text(
        """
def handler(event, context):
    open("ran.log", "a").close()
    print("DONE")
"""
    )
    command = start()
    send(command.exports(), MAIL, "one")

    command.wait_for(rf"on Lambda only /tmp can be.* --writable {tmp_path}/ran\.log")
    assert not (tmp_path / "ran.log").exists()

    command = start("--writable", "ran.log")
    send(command.exports(), MAIL, "one")

    command.wait_for("DONE")
    assert (tmp_path / "ran.log").exists()


def test_a_project_without_any_setting_gets_a_queue(start: StartCommand, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text('from celery import Celery\napp = Celery("proj")\n')
    command = start("--dashboard-port", "0")

    exports = command.exports()
    assert "page:" not in "\n".join(command.output)
    send(exports, exports["LAMBDA_CELERY_QUEUE_URL"], "hello")

    assert exports["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{command.port}"
    assert exports["LAMBDA_CELERY_QUEUE_URL"].endswith("/celery")
    assert exports["LAMBDA_CELERY_PAYLOAD_BUCKET"] == "lambda-celery-payloads"
    assert exports["AWS_DEFAULT_REGION"] == "us-east-1"
    command.wait_for("DONE hello proj")


def test_it_says_what_it_made_up_and_which_tasks_it_runs(
    start: StartCommand, tmp_path: Path
) -> None:
    (tmp_path / "proj.py").write_text(
        """
from celery import Celery
from lambda_celery import task

app = Celery("proj")

@task(name="proj.send")
def send():
    pass

@app.task(name="proj.stays")
def stays():
    pass
"""
    )
    command = start()
    command.wait_for("Press Ctrl-C")
    shown = "\n".join(command.output)
    assert "lambda-celery-idempotency, since lambda_idempotency_table is not set" in shown
    assert "  . proj.send" in shown
    assert "proj.stays" not in shown


def test_globs_that_nobody_looks_at_are_pointed_out(start: StartCommand, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(CELERY_PROJECT + 'app.conf.lambda_tasks = ["proj.*"]\n')
    start().wait_for(r"lambda_celery\.install\(app\)")


def test_task_modules_that_cannot_be_imported_are_said_at_once(
    start: StartCommand, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("\n\nimport nonexistent_module\n")
    (tmp_path / "proj.py").write_text(CELERY_PROJECT + 'app.conf.imports = ["broken"]\n')
    command = start()
    assert command.wait() == 1
    said = command.output[-1]
    assert "cannot be imported: ModuleNotFoundError: No module named 'nonexistent_module'" in said
    assert "broken.py, line 3" in said


def test_a_django_project_with_two_queues(start: StartCommand, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(DJANGO_PROJECT)
    command = start()

    exports = command.exports()
    banner = "\n".join(command.output)
    assert ".> mail (batch size 10, window 0 s)" in banner
    assert ".> bulk (batch size 10, window 0 s)" in banner
    send(exports, MAIL, "one")
    command.wait_for("DONE one proj")
    send(exports, BULK, "two")
    command.wait_for("DONE two proj")


def test_reload_runs_the_new_code(start: StartCommand, tmp_path: Path) -> None:
    command = start("--reload")
    exports = command.exports()
    send(exports, MAIL, "one")
    command.wait_for("DONE one")

    # Again and again, as nothing tells when the watching has begun.
    noticed = threading.Event()

    def edit() -> None:
        while not noticed.wait(0.2):
            (tmp_path / "lambda_module.py").write_text(HANDLER.replace("DONE", "RELOADED"))

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        command.wait_for("Reloading: lambda_module.py changed")
    finally:
        noticed.set()
        editor.join()
    send(exports, MAIL, "two")

    command.wait_for("RELOADED two")


def test_a_configured_endpoint_that_answers_is_used(start: StartCommand) -> None:
    with ministack() as url:
        exports = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        queue_url = f"{url}/000000000000/mine"
        sqs = boto3.session.Session("test", "test", region_name="eu-west-1").client(
            "sqs", endpoint_url=url
        )
        sqs.create_queue(QueueName="mine")
        command = start(LAMBDA_CELERY_QUEUE_URL=queue_url, **exports)
        command.wait_for(f"endpoint:    {url} .configured")
        assert list(command.exports()) == ["AWS_ENDPOINT_URL_LAMBDA", "LAMBDA_CELERY_FUNCTION"]
        send(exports, queue_url, "hello")
        command.wait_for("DONE hello")
        assert len(command.child_pids()) == 1  # no emulator of its own
        command.process.send_signal(signal.SIGINT)
        assert command.wait() == 0


def test_a_configured_queue_that_is_not_there_is_named(start: StartCommand) -> None:
    with ministack() as url:
        command = start(
            AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test"
        )
        assert command.wait() == 1
    [error] = [line for line in command.output if line.startswith("Error: ")]
    assert MAIL in error
    assert "does not exist" in error


def test_the_exported_endpoint_in_the_settings_starts_the_emulator_there(
    start: StartCommand,
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = start(AWS_ENDPOINT_URL=url)

    exports = command.exports()

    assert exports["AWS_ENDPOINT_URL"] == url
    send(exports, MAIL, "hello")
    command.wait_for("DONE hello")


def test_a_port_that_is_taken_is_said_in_a_sentence(start: StartCommand) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = start("--port", str(port))
        assert command.wait() == 1
    assert command.output == [
        f"Error: Port {port} of 127.0.0.1 is in use by another process: end that one, or choose "
        "another port with --port."
    ]


def test_a_port_for_calls_that_is_taken_is_said_in_a_sentence(start: StartCommand) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = start("--invoke-port", str(port))
        assert command.wait() == 1
    assert command.output == [
        f"Error: Port {port} of 127.0.0.1 is taken by another program: choose another port by "
        "--invoke-port."
    ]


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["--batch-size", "20"], 1, "A batch size of 20 needs a batch window"),
        (["--concurrency", "0"], 1, "maximum concurrency is 0"),
        (["--timeout", "901"], 1, "Lambda takes 1 to 900"),
        (
            ["--timeout", "5401", "--per-execution-environment-max-concurrency", "2"],
            1,
            "Lambda takes 1 to 5400.",
        ),
        (["--per-execution-environment-max-concurrency", "0"], 2, "concurrency"),
        (["--port", "0"], 2, "--port"),
        (["--invoke-port", "0"], 2, "--invoke-port"),
    ],
)
def test_impossible_options_are_refused_in_a_sentence(
    start: StartCommand, options: list[str], status: int, sentence: str
) -> None:
    command = start(*options)

    assert command.wait() == status
    assert sentence in "\n".join(command.output)
    assert "Traceback" not in "\n".join(command.output)


def test_the_app_has_to_be_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "lambda", "local"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "Name the Celery app: celery -A proj lambda local" in done.stderr


def test_help_does_not_load_the_heavy_parts() -> None:
    program = (
        "import sys, lambda_celery.cli; "
        "print([name for name in ('watchfiles', 'http.server', 'lambda_celery.local') "
        "if name in sys.modules])"
    )

    printed = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert printed.strip() == "[]"


TASK_PROJECT = """
from celery import Celery
from lambda_celery import install

app = Celery("proj")
app.conf.lambda_tasks = ["*"]
app.conf.lambda_queue_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
install(app)

@app.task(name="proj.send")
def send(address):
    if address == "nobody":
        raise ValueError("no such mailbox")
    return "sent"
"""
OF_THE_RUNTIME = ("--handler", "lambda_runtime.handler")
COLOUR = "\x1b["


def publish(directory: Path, exports: dict[str, str], address: str) -> None:
    code = f"from proj import send; send.delay({address!r})"
    subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env={**os.environ, **exports}, check=True
    )


def test_a_terminal_shows_a_workers_lines(tmp_path, start):
    (tmp_path / "proj.py").write_text(TASK_PROJECT)
    running = start(*OF_THE_RUNTIME, on_terminal=True)
    exports = running.exports()
    publish(tmp_path, exports, "ann")
    received = running.wait_for(r"Task proj\.send\[[0-9a-f-]+\] received").string
    assert re.search(r"\[\d{4}-\d\d-\d\d .*: INFO/MainProcess\]", received)
    assert not received.startswith("{")
    running.wait_for(r"Task proj\.send\[[0-9a-f-]+\] succeeded in .*: 'sent'")
    publish(tmp_path, exports, "nobody")
    raised = running.wait_for(r"proj\.send\[[0-9a-f-]+\] raised, and comes back in \d+ s").string
    assert COLOUR in raised
    running.wait_for("ValueError: no such mailbox")


def test_a_terminal_shows_json_if_told_to(tmp_path, start):
    (tmp_path / "proj.py").write_text(TASK_PROJECT)
    running = start(*OF_THE_RUNTIME, "--json", on_terminal=True)
    publish(tmp_path, running.exports(), "ann")
    line = running.wait_for(r'^\{.*"message":"Task proj\.send\[[0-9a-f-]+\] received').string
    assert json.loads(line)["level"] == "INFO"


def test_what_is_no_terminal_gets_json(tmp_path, start):
    (tmp_path / "proj.py").write_text(TASK_PROJECT)
    running = start(*OF_THE_RUNTIME)
    publish(tmp_path, running.exports(), "ann")
    line = running.wait_for(r'^\{.*"message":"Task proj\.send\[[0-9a-f-]+\] received').string
    assert json.loads(line)["level"] == "INFO"


@pytest.mark.parametrize("where", ["with NO_COLOR", "with --no-color", "into a pipe"])
def test_a_workers_lines_have_no_colour_where_none_is_wanted(tmp_path, start, where):
    (tmp_path / "proj.py").write_text(TASK_PROJECT)
    if where == "into a pipe":
        running = start(*OF_THE_RUNTIME, "--log-format", "text")
    elif where == "with --no-color":
        running = start(*OF_THE_RUNTIME, of_celery=("--no-color",), on_terminal=True)
    else:
        running = start(*OF_THE_RUNTIME, on_terminal=True, NO_COLOR="1")
    publish(tmp_path, running.exports(), "nobody")
    raised = running.wait_for(r"proj\.send\[[0-9a-f-]+\] raised, and comes back in \d+ s").string
    assert re.match(r"\[\d{4}-\d\d-\d\d .*: WARNING/", raised)
    assert COLOUR not in "\n".join(running.output)


RETRIED = """

@app.task(name="proj.again", bind=True)
def again(self):
    if not self.request.retries:
        self.retry(exc=ValueError("451"), countdown=0)
"""


def test_the_page_moves_with_the_first_task(tmp_path, start):
    # Given
    (tmp_path / "proj.py").write_text(TASK_PROJECT + RETRIED)
    running = start(*OF_THE_RUNTIME, on_terminal=True)
    page = running.wait_for(r"page: +(http://127\.0\.0\.1:(\d+)/)")
    exports = running.exports()

    # When: a task is retried, and succeeds
    code = "from proj import again; print(again.delay().id)"
    task_id = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **exports}, text=True
    ).strip()
    running.wait_for(rf"{task_id}\] succeeded")
    run = LocalRun.at(int(page[2]))
    assert run is not None
    for _ in range(600):
        if sum(sum(each.succeeded) for each in run.status().tasks):
            break
        threading.Event().wait(0.05)

    # Then: its attempts are one chain
    found = run.attempts(task_id)
    assert [(e.task, e.end, e.retries) for e in found.attempts] == [
        ("proj.again", "retried", 0), ("proj.again", "succeeded", 1),
    ]  # fmt: skip
    assert found.attempts[0].exception == "Retry in 0s: ValueError('451')"

    # And: the figures are the run's in another shell, too
    printed = subprocess.check_output(
        [sys.executable, "-m", "celery", "-A", "proj", "lambda", "status", "--json"],
        cwd=tmp_path, env={**os.environ, **exports}, text=True,
    )  # fmt: skip
    figures = json.loads(printed)
    [task] = figures["tasks"]
    assert (task["name"], task["queue"]) == ("proj.again", "mail")
    assert [sum(task[each]) for each in ("succeeded", "retried", "failed")] == [1, 1, 0]
    assert sum(map(sum, task["durations"])) == 2
    assert [(each["name"], each["waiting"]) for each in figures["queues"]] == [("mail", 0)]
    assert [each["version"] for each in figures["deployments"]] == ["$LATEST"]
    assert sum(figures["functions"][0]["invocations"]) == 2
    assert figures["left_out"] == []
    # And: the page looks where the run does
    with urlopen(f"{page[1]}api/failed", timeout=60) as answer:
        assert json.load(answer)["failures"] == []
    # And: nothing of it is in the person's log
    assert not any(line.startswith("{") for line in running.output)
