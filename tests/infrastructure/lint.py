"""What ``sam validate --lint`` and checkov say of the templates that the definition makes.

``make lint-infrastructure`` calls it, with the directory that has the two programs. Each finding of
checkov's is explained here, or it fails; so does an explanation without its finding, and either
program if it finds nothing in a template that is broken on purpose. Nothing asks the internet.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lambda_celery.infrastructure.forms import sam
from lambda_celery.infrastructure.forms.cloudformation import to_yaml
from lambda_celery.infrastructure.inputs import Deployment

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_mail" / "pyproject.toml"
REGION = "eu-central-1"
#: Nobody listens there.
NOWHERE = "http://127.0.0.1:9"
EVERYWHERE = {
    "CKV_AWS_18": "Who reads and writes bodies are two roles. An access log is a bucket more.",
    "CKV_AWS_21": "A body is written once. A version would keep what was deleted on purpose.",
    "CKV_AWS_115": "Reserved concurrency throttles, which costs receives. The mapping has a limit.",
    "CKV_AWS_116": "It is for asynchronous invocations. Here the queue has a dead-letter queue.",
}
#: AWS's own keys encrypt all of these; kms_key_arn brings another.
WITHOUT_KEY = {
    "CKV_AWS_27": "SqsManagedSseEnabled encrypts messages, without a price for each request.",
    "CKV_AWS_119": "DynamoDB encrypts every table, if not with a key of ours.",
    "CKV_AWS_158": "CloudWatch Logs encrypts every group, if not with a key of ours.",
    "CKV_AWS_173": "Lambda encrypts variables, if not with a key of ours.",
}
EXPLAINED = {
    "example": EVERYWHERE
    | WITHOUT_KEY
    | {
        "CKV_AWS_117": "Most tasks need the internet, which a VPC keeps from them. vpc is an input."
    },
    "rich": EVERYWHERE
    | {
        "CKV_AWS_26": "CloudWatch cannot send to a topic of a key whose policy does not name it.",
        "CKV_AWS_111": "Lambda makes network interfaces with the role. They have no ARN before.",
    },
}
#: What checkov must say of the broken template besides.
BROKEN = {"CKV_AWS_53", "CKV_AWS_54", "CKV_AWS_55", "CKV_AWS_56"}


def documents() -> dict[str, dict[str, Any]]:
    """Return the templates by their names: the example's, one with all there is, a broken one."""
    example = sam.document(Deployment.from_pyproject(EXAMPLE))
    broken = copy.deepcopy(example)
    del broken["Resources"]["PayloadBucket"]["Properties"]["PublicAccessBlockConfiguration"]
    broken["Resources"]["CeleryQueue"]["Properties"]["VisibilityTimeout"] = 43_201
    rich = Deployment(
        app="proj.celery:app",
        name="shop",
        queues={"mail": {"fifo": True}, "reports": {"timeout": 600, "batch_size": 100}},
        functions="each",
        results=True,
        alarm_email="ops@example.org",
        kms_key_arn=f"arn:aws:kms:{REGION}:123456789012:key/11111111-2222-3333-4444-555555555555",
        vpc={"subnet_ids": ["subnet-12345678"], "security_group_ids": ["sg-12345678"]},
        permissions_boundary="arn:aws:iam::123456789012:policy/boundary",
        layers=[f"arn:aws:lambda:{REGION}:123456789012:layer:binaries:3"],
        tags={"team": "shop"},
        snap_start=True,
        warm_throughput={"read": 12_000, "write": 8_000},
        provisioned_pollers={"minimum": 2, "maximum": 20},
    )
    return {"example": example, "rich": sam.document(rich), "broken": broken}


def problems(
    found: Mapping[str, set[str]], explained: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield a sentence for each check that fails unexplained, and each that is explained in vain.

    Arguments:
        found: the ids of the checks that fail, by the template's name.
        explained: the reasons, by the template's name and the check's id.
    """
    for template, reasons in explained.items():
        for check in sorted(found.get(template, set()) - reasons.keys()):
            yield f"{check} fails in the template {template}: mend it, or explain it in EXPLAINED."
        for check in sorted(reasons.keys() - found.get(template, set())):
            yield f"{check} does not fail in the template {template}: take it out of EXPLAINED."


def lint(programs: Path, directory: Path) -> Iterator[str]:
    """Yield what is wrong with the templates, or with the two *programs*."""
    made = documents()
    for name, document in made.items():
        (directory / f"{name}.yaml").write_text(to_yaml(document))
    for name in made:
        done = run(programs / "sam", "validate", "--lint", "--region", REGION,
                   "--template", f"{name}.yaml", directory=directory)  # fmt: skip
        if name == "broken":
            if done.returncode == 0 or "43201" not in done.stdout + done.stderr:
                yield "sam validate takes the broken template."
        elif done.returncode:
            yield f"sam validate refuses the template {name}:\n{done.stdout}{done.stderr}"
    found = checkovs_findings(programs, directory, list(made))
    yield from problems(found, EXPLAINED)
    if found["broken"] - EXPLAINED["example"].keys() != BROKEN:
        yield f"checkov must find {', '.join(sorted(BROKEN))} in the broken template."


def checkovs_findings(programs: Path, directory: Path, names: list[str]) -> dict[str, set[str]]:
    """Return the ids of the checks that fail, by the template's name."""
    files = [word for name in names for word in ("--file", f"{name}.yaml")]
    done = run(programs / "checkov", *files, "--framework", "cloudformation", "--output", "json",
               "--compact", "--quiet", "--skip-download", directory=directory)  # fmt: skip
    try:
        results = json.loads(done.stdout)["results"]
    except ValueError:
        sys.exit(f"checkov says no JSON:\n{done.stdout}{done.stderr}")
    found = defaultdict(set)
    for each in results["failed_checks"]:
        found[Path(each["file_path"]).stem].add(each["check_id"])
    return found


def run(program: Path, *words: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run *program* in *directory*, with nothing of this user's and no way to the internet."""
    home = directory / "home"
    (home / ".aws-sam").mkdir(parents=True, exist_ok=True)
    # Else it would ask for the newest version of itself.
    (home / ".aws-sam" / "metadata.json").write_text(json.dumps({"lastVersionCheck": time.time()}))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SAM_CLI_TELEMETRY": "0",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE),
    }
    return subprocess.run(
        [program, *words], cwd=directory, env=environment, capture_output=True, text=True
    )


def main() -> None:
    """Lint, and exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", type=Path, help="the directory with sam and checkov")
    programs = parser.parse_args().programs.resolve()
    for name in ("sam", "checkov"):
        if not (programs / name).exists():
            parser.error(f"there is no {name} in {programs}: run `make lint-infrastructure`.")
    with tempfile.TemporaryDirectory() as directory:
        wrong = list(lint(programs, Path(directory)))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
