"""``celery -A proj lambda pause`` and ``continue``: the mappings of a queue, and what they say."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def mail(runtime):
    """Celery's name of the runtime's queue."""
    runtime.app.conf.lambda_queues = {"mail": runtime.settings.queue_url}


def test_a_queue_is_continued_and_paused(runtime, deployment):
    # When
    continued = deployment.command("continue", "mail")
    after = deployment.states()
    paused = deployment.command("pause", deployment.queue_name)

    # Then
    named = f"The mapping {deployment.uuid} from the queue mail to the function {deployment.name}"
    assert continued.exit_code == paused.exit_code == 0, continued.output + paused.output
    assert continued.output.splitlines() == [
        f"{named} is on now.",
        "The queue mail has about 0 messages waiting.",
    ]
    assert after == {"Enabled"}
    assert paused.output.splitlines() == [
        f"{named} is paused now.",
        "Invocations under way go on to their end. The queue mail has about 0 messages in flight "
        "and about 0 messages waiting, and keeps each for 4 days after it was sent.",
    ]
    assert deployment.states() == {"Disabled"}


def test_it_says_what_is_in_flight_and_what_waits(runtime, deployment):
    runtime.stack.send("one", "two", "three")
    runtime.receive(1)

    said = deployment.command("pause", "mail").output

    assert "about 1 message in flight and about 2 messages waiting" in said


def test_again_it_changes_nothing(runtime, deployment, faults):
    faults.fail(
        runtime.settings, "lambda", "UpdateEventSourceMapping", "AccessDeniedException", status=403
    )

    done = deployment.command("pause", "--all")

    assert done.exit_code == 0
    assert f"to the function {deployment.name} was paused already." in done.output


def test_all_mappings_of_a_queue_are_switched_and_named(runtime, deployment):
    other = deployment.add_mapping()

    done = deployment.command("continue", "--all")
    back = deployment.command("pause", "mail")

    assert done.exit_code == back.exit_code == 0, done.output + back.output
    assert f"The mapping {deployment.uuid} from the queue mail to the function " in done.output
    assert f"The mapping {other} from the queue mail to the function " in done.output
    assert f"{deployment.name}:live is on now." in done.output
    assert deployment.states() == {"Disabled"}


@pytest.mark.parametrize("command", ["pause", "continue"])
def test_an_unknown_queue_is_refused_with_those_that_there_are(deployment, command):
    done = deployment.command(command, "mail", "post")

    assert done.exit_code == 1
    assert done.output == "Error: The settings name no queue 'post'. There are mail.\n"


def test_a_queue_that_nothing_takes_from_is_told(runtime, deployment):
    runtime.app.conf.lambda_queues = {
        "mail": runtime.settings.queue_url,
        "dead": runtime.settings.dead_letter_queue_url,
    }

    done = deployment.command("continue", "mail", "dead")

    assert done.exit_code == 1
    assert "No event source mapping takes from the queue dead: nothing was chang" in done.output
    assert deployment.states() == {"Disabled"}


@pytest.mark.parametrize("queues", [[], ["mail", "--all"]])
def test_without_a_queue_all_of_them_must_be_asked_for(deployment, queues):
    done = deployment.command("pause", *queues)

    assert done.exit_code == 2
    assert "Name a queue, or several, or give --all." in done.output


@pytest.mark.parametrize(
    "operation",
    ["ListEventSourceMappings", "GetEventSourceMapping", "UpdateEventSourceMapping"],
)
def test_a_refusal_is_a_sentence(runtime, deployment, faults, operation):
    faults.fail(runtime.settings, "lambda", operation, "AccessDeniedException", status=403)

    done = deployment.command("continue", "mail")

    assert done.exit_code == 1
    assert f"allow lambda:{operation} there" in done.output


def test_waiting_has_an_end(runtime, deployment, faults, monkeypatch):
    monkeypatch.setattr("lambda_celery.pausing._PATIENCE_SECONDS", 0)
    faults.fail(runtime.settings, "lambda", "UpdateEventSourceMapping", "ResourceInUseException")

    done = deployment.command("continue", "mail")

    assert done.exit_code == 1
    assert "Error: Not everything is Enabled after 0 s. The mapping" in done.output
    assert f"{deployment.name} is not. Run it again." in done.output
