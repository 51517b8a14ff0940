"""The CDK app that ``lambda init`` writes, synthesised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from lambda_celery.infrastructure.forms import cdk
from lambda_celery.infrastructure.inputs import Deployment

STANZA = """[tool.lambda-celery]
app = "proj"
name = "shop"
runtime = "python3.13"

[tool.lambda-celery.parameters]
MailHost = {variable = "MAIL_HOST", default = "localhost"}
MailPassword = {variable = "MAIL_PASSWORD", secret = true}
"""


def test_the_app_makes_what_the_stanza_says(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(STANZA)
    (tmp_path / "dist").mkdir()
    with zipfile.ZipFile(tmp_path / "dist/lambda.zip", "w") as archive:
        archive.writestr("proj.py", "")
    place = tmp_path / "infrastructure"
    place.mkdir()
    deployment = Deployment.from_pyproject(tmp_path / "pyproject.toml")
    for name, text in cdk.files(deployment, "..").items():
        (place / name).write_text(text)
    path = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]

    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=place,
        env=os.environ
        | {"CDK_OUTDIR": str(tmp_path / "out"), "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    template = json.loads((tmp_path / "out/shop.template.json").read_text())
    assert template["Parameters"]["MailHost"]["Default"] == "localhost"
    assert template["Parameters"]["MailPassword"]["NoEcho"] is True
    (function,) = (
        each["Properties"]
        for each in template["Resources"].values()
        if each["Type"] == "AWS::Lambda::Function" and each["Properties"]["Runtime"] == "python3.13"
    )
    variables = function["Environment"]["Variables"]
    assert variables["LAMBDA_CELERY_APP"] == "proj"
    assert variables["MAIL_PASSWORD"] == {"Ref": "MailPassword"}
