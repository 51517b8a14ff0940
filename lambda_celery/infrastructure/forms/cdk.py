"""A CDK app of a few lines, which reads the stanza whenever it is synthesised."""

from __future__ import annotations

import json

from lambda_celery.infrastructure.forms.paths import PACKAGE
from lambda_celery.infrastructure.forms.versions import check_that_parameters_arrive
from lambda_celery.infrastructure.inputs import Deployment

_APP = '''"""What `cdk deploy` makes, in this directory. It reads pyproject.toml each time."""

from pathlib import Path

import aws_cdk
from aws_cdk import aws_lambda

from lambda_celery.infrastructure.cdk import LambdaCelery
from lambda_celery.infrastructure.inputs import Deployment

PROJECT = (Path(__file__).parent / {project}).resolve()

deployment = Deployment.from_pyproject(PROJECT / "pyproject.toml")
app = aws_cdk.App()
stack = aws_cdk.Stack(app, deployment.name)
LambdaCelery(
    stack,
    "Celery",
    deployment=deployment,
    code={code},
    # `cdk deploy --parameters NAME=VALUE` gives them their values.
    parameters={{
        name: aws_cdk.CfnParameter(
            stack, name, default=each.default, description=each.description, no_echo=each.secret
        ).value_as_string
        for name, each in deployment.parameters.items()
    }},
)
app.synth()
'''
_ZIP = f'aws_lambda.Code.from_asset(str(PROJECT / "{PACKAGE}"))'
#: Of the Dockerfile that ``celery lambda package --image`` writes.
_IMAGE = "aws_lambda.Code.from_asset_image(str(PROJECT))"


def files(deployment: Deployment, project: str = ".") -> dict[str, str]:
    """Return the files of this form: their names and their texts.

    *project* is the way to the project's directory from theirs.

    Raises :exc:`ConfigurationError` for SnapStart with parameters.
    """
    check_that_parameters_arrive(deployment)
    code = _IMAGE if deployment.package_type == "image" else _ZIP
    return {
        "app.py": _APP.format(project=json.dumps(project), code=code),
        "cdk.json": json.dumps({"app": "python3 app.py"}, indent=2) + "\n",
    }
