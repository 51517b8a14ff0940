"""The event source mappings, and how many invocations they make at the same time."""

from __future__ import annotations

from collections.abc import Iterator

from lambda_celery.check.deployed.deployment import Deployed, SourceMapping
from lambda_celery.check.deployed.rule import Difference, Wrong, deployed_rule
from lambda_celery.check.model import Grade
from lambda_celery.conf import setting_names
from lambda_celery.infrastructure.computed import LARGEST_BATCH_WITHOUT_WINDOW

_PARTIAL_RESPONSES = "ReportBatchItemFailures"
_AT_WORK = {"Enabled", "Enabling", "Creating", "Updating"}
#: How Lambda begins the result of its last poll when it could not do its work.
_PROBLEM = "PROBLEM"


@deployed_rule("deployed-mapping", "An event source mapping that does not bring the messages")
def mapping(deployed: Deployed) -> Iterator[Difference]:
    """A queue has no event source mapping, more than one, or one that does not do its work.

    It must be enabled, have no filter (Lambda deletes what a filter does not let through), and
    bring the messages to the project's function. Of two mappings each takes a part of the
    messages, whatever function it is for.
    """
    for queue in deployed.queues():
        mappings = deployed.mappings_of(queue)
        if mappings is None:
            continue
        if not mappings:
            yield Difference(
                Grade.RED,
                queue.thing,
                "No event source mapping takes messages from the queue, so no task runs.",
                Wrong.AWS,
                "create an event source mapping from the queue to the function.",
            )
        if len(mappings) > 1:
            functions = ", ".join(each.said["FunctionArn"] for each in mappings)
            yield Difference(
                Grade.RED,
                queue.thing,
                f"Several event source mappings take from the queue, each a part: {functions}.",
                Wrong.AWS,
                "delete all but one.",
            )
        for each in mappings:
            yield from _work_of(each)
            yield from _right_function(deployed, each)


def _work_of(mapping: SourceMapping) -> Iterator[Difference]:
    if (state := mapping.said.get("State")) not in _AT_WORK:
        yield Difference(
            Grade.RED,
            mapping.thing,
            f"The event source mapping is {state}, so no task runs.",
            Wrong.AWS,
            f"switch it on by celery -A proj lambda continue {mapping.queue.name} and wait for it.",
        )
    if (mapping.said.get("FilterCriteria") or {}).get("Filters"):
        yield Difference(
            Grade.RED,
            mapping.thing,
            "The event source mapping has a filter. Lambda deletes each message that the filter "
            "does not let through.",
            Wrong.AWS,
            "remove FilterCriteria.",
        )
    result = str(mapping.said.get("LastProcessingResult") or "")
    if result.startswith(_PROBLEM):
        yield Difference(
            Grade.RED,
            mapping.thing,
            f"Lambda could not do its work the last time: {result}",
            Wrong.AWS,
            "do what that sentence asks for, mostly a permission of the function's role.",
        )


def _right_function(deployed: Deployed, mapping: SourceMapping) -> Iterator[Difference]:
    function = deployed.function_of(mapping)
    if function is None or function.figures is None:
        return
    must = function.figures.name
    # CloudFormation appends to a name that it makes.
    if function.name != must and not function.name.startswith(f"{must}-"):
        yield Difference(
            Grade.AMBER,
            mapping.thing,
            f"The event source mapping brings the messages to {function.name}. By pyproject.toml "
            f"the function is {must}.",
            Wrong.AWS,
            "change FunctionName of the mapping. If that is the project's function, the settings "
            "are wrong: change name in [tool.lambda-celery].",
        )


@deployed_rule("deployed-batch", "A batch that is not gathered as it must be")
def batch(deployed: Deployed) -> Iterator[Difference]:
    """`BatchSize` and `MaximumBatchingWindowInSeconds` of a mapping are not as they must be.

    A batch of more than 10 needs a window of 1 s. With `[tool.lambda-celery]`, both are compared
    with it.
    """
    for each in deployed.mappings():
        size = int(each.said.get("BatchSize") or 0)
        figures = each.queue.figures
        if size > LARGEST_BATCH_WITHOUT_WINDOW and each.window_seconds < 1:
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"The batch may be of {size} messages, and there is no batching window. Lambda "
                f"then gathers {LARGEST_BATCH_WITHOUT_WINDOW} at most.",
                Wrong.AWS,
                "set MaximumBatchingWindowInSeconds to 1 or more.",
            )
        pairs = [] if figures is None else [
            ("BatchSize", size, figures.batch_size),
            ("MaximumBatchingWindowInSeconds", each.window_seconds, figures.window_seconds),
        ]  # fmt: skip
        for name, there, must in pairs:
            if there != must:
                yield Difference(
                    Grade.AMBER,
                    each.thing,
                    f"{name} is {there}. By pyproject.toml it must be {must}.",
                    Wrong.AWS,
                    f"set {name} to {must}, by deploying anew.",
                )


@deployed_rule("deployed-partial-responses", "A mapping that deletes failed messages")
def partial_responses(deployed: Deployed) -> Iterator[Difference]:
    """A mapping has no `ReportBatchItemFailures`, and the settings say that it has.

    Lambda then deletes every message of a batch, the failed ones too. The other way round,
    with `lambda_report_batch_item_failures = False`, the whole batch comes back for one failure.
    """
    says_so = deployed.settings.report_batch_item_failures
    for each in deployed.mappings():
        has_it = _PARTIAL_RESPONSES in (each.said.get("FunctionResponseTypes") or [])
        if says_so and not has_it:
            yield Difference(
                Grade.RED,
                each.thing,
                f"The event source mapping has no {_PARTIAL_RESPONSES}: Lambda deletes every "
                "message of a batch, the failed ones too.",
                Wrong.AWS,
                f"add {_PARTIAL_RESPONSES} to FunctionResponseTypes of the mapping.",
            )
        if has_it and not says_so:
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"The event source mapping has {_PARTIAL_RESPONSES}, and the settings say that "
                "it has not: a whole batch comes back for one failure.",
                Wrong.SETTINGS,
                f"set {setting_names('report_batch_item_failures')} to true, or leave it out.",
            )


@deployed_rule("deployed-concurrency", "Invocations that are throttled, or without a limit")
def concurrency(deployed: Deployed) -> Iterator[Difference]:
    """The mappings may make more invocations at the same time than the function may have.

    The rest is throttled, each time a message counts as received, and in the end it is parked
    without having run. A mapping needs `MaximumConcurrency` or provisioned pollers; with
    `[tool.lambda-celery]`, these are compared with it. `ReservedConcurrentExecutions` of the
    function must not be less than all its mappings' `MaximumConcurrency` together.
    """
    of_function: dict[str, int] = {}
    for each in deployed.mappings():
        yield from _limit(deployed, each)
        if (function := deployed.function_of(each)) is not None:
            name = function.name
            of_function[name] = of_function.get(name, 0) + (each.maximum_concurrency or 0)
    for name, function in deployed.functions_by_name().items():
        answer = deployed.reader.look(
            "lambda",
            "get_function_concurrency",
            function.thing,
            "lambda:GetFunctionConcurrency",
            FunctionName=name,
        )
        reserved = answer.said.get("ReservedConcurrentExecutions") if answer else None
        if reserved is not None and (reserved == 0 or reserved < of_function[name]):
            yield Difference(
                Grade.RED,
                function.thing,
                f"The function may have {reserved} invocations at the same time "
                f"(ReservedConcurrentExecutions), and its mappings make {of_function[name]}. What "
                "is throttled counts as received, and is parked without having run.",
                Wrong.AWS,
                "remove the reserved concurrency, or lower MaximumConcurrency of the mappings.",
            )


def _limit(deployed: Deployed, each: SourceMapping) -> Iterator[Difference]:
    pollers = each.said.get("ProvisionedPollerConfig") or {}
    if each.maximum_concurrency is None and not pollers:
        yield Difference(
            Grade.AMBER,
            each.thing,
            "The event source mapping has neither MaximumConcurrency nor provisioned pollers: it "
            "takes what the account has, and database and other functions have to stand it.",
            Wrong.AWS,
            "set MaximumConcurrency in ScalingConfig of the mapping.",
        )
        return
    if deployed.deployment is None or each.queue.figures is None:
        return
    wanted = deployed.deployment.provisioned_pollers
    must: dict[str, int | None] = {"MaximumConcurrency": each.queue.figures.maximum_concurrency}
    there: dict[str, int | None] = {"MaximumConcurrency": each.maximum_concurrency}
    for name, value in (
        ("MinimumPollers", wanted.minimum if wanted else None),
        ("MaximumPollers", wanted.maximum if wanted else None),
    ):
        must[name], there[name] = value, pollers.get(name)
    for name, value in must.items():
        if there[name] != value:
            yield Difference(
                Grade.AMBER,
                each.thing,
                f"{name} is {there[name] or 'not set'}. By pyproject.toml it must be "
                f"{value or 'left out'}.",
                Wrong.AWS,
                f"change {name}, by deploying anew.",
            )
