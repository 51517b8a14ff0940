"""Writes what builds the function's container image, on AWS's base image."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from lambda_celery.conf import APP_VARIABLE
from lambda_celery.packaging import left_out, requirements
from lambda_celery.packaging.build import Order
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.own_files import source_root

_HEADER = "# Written by `celery lambda package --image`."
_EXPORTED = "requirements.lambda.txt"
_BASE_IMAGE = "public.ecr.aws/lambda/python"
_OWN_REQUIREMENT = re.compile(r"^lambda[-_.]celery\b(\s*\[[^\]]*runtime)?", re.MULTILINE | re.I)
#: What the extra brings: a lock has it in the place of the extra.
_OF_THE_EXTRA = "aws-lambda-powertools"


def write(order: Order, directory: Path) -> list[Path]:
    """Write ``Dockerfile`` and ``.dockerignore`` to *directory*, and return what was written.

    Requirements that come from a lock are a third file.

    Raises:
        PackagingError: Lambda has no such runtime, a file is there that is not this command's,
            or the requirements are missing or lack this project.
    """
    target = order.target
    source = source_root(order.root, order.inputs.app).relative_to(order.root)
    with tempfile.TemporaryDirectory(prefix="lambda-celery-") as scratch:
        found = requirements.find(order.root, order.requirements, Path(scratch))
        text = found.path.read_text()
    is_exported = not found.is_projects
    own = _OWN_REQUIREMENT.search(text)
    if own is None or not (own[1] or _OF_THE_EXTRA in text):
        raise PackagingError(
            f"lambda-celery[runtime] is not in {found.source}: add the line "
            "`lambda-celery[runtime]`."
        )
    files = {}
    if is_exported:
        name = _EXPORTED
        files[_EXPORTED] = f"{_HEADER} From {found.source}.\n{text}"
    else:
        try:
            name = found.path.relative_to(order.root.resolve()).as_posix()
        except ValueError as exc:
            raise PackagingError(
                f"{found.path} is outside of {order.root}, and no build of an image sees it there: "
                "copy it into the project."
            ) from exc
    dockerfile = _dockerfile(order, target.version, source.as_posix(), name)
    files |= {"Dockerfile": dockerfile, ".dockerignore": _ignored(order, name)}
    return _written(directory, files)


def _dockerfile(order: Order, version: str, source: str, requirements_file: str) -> str:
    left = ""
    if order.without_boto3:
        left = " \\\n    && rm -rf " + " ".join(
            f'"${{LAMBDA_TASK_ROOT}}"/{name} "${{LAMBDA_TASK_ROOT}}"/{name}-*.dist-info'
            for name in left_out.RUNTIMES_OWN
        )
    architecture = order.inputs.architecture
    platform = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}[architecture]
    return f"""{_HEADER}
# Build it for the function's architecture, and without an attestation, which Lambda refuses:
#   docker buildx build --platform {platform} --provenance=false --tag IMAGE .
FROM {_BASE_IMAGE}:{version}-{architecture}

# Before the project's own files: this layer stays as long as the requirements do.
COPY {requirements_file} /tmp/requirements.txt
RUN pip install --no-cache-dir --no-compile --target "${{LAMBDA_TASK_ROOT}}" \\
    --requirement /tmp/requirements.txt{left}

COPY {source.rstrip("/")}/ "${{LAMBDA_TASK_ROOT}}"/

# What is compiled here is not compiled at each cold start. Some wheels have files that are no
# modules of this Python: these are left alone.
RUN python -m compileall -q --invalidation-mode unchecked-hash "${{LAMBDA_TASK_ROOT}}" || true

ENV {APP_VARIABLE}={order.inputs.app}
CMD ["{order.inputs.handler}"]
"""


def _ignored(order: Order, requirements_file: str) -> str:
    source = source_root(order.root, order.inputs.app)
    directories = [
        each
        for each in (*left_out.TOP_DIRECTORIES, left_out.UPLOADS)
        if not (source / each / "__init__.py").exists()
    ]
    lines = [
        _HEADER,
        "# What git ignores is not read by Docker: add it here, secrets above all. With a ! before",
        "# it, a line takes what is wanted: a certificate, or tests that other modules import.",
        *(
            f"**/{each}"
            for each in (
                *left_out.CACHES,
                *left_out.SECRETS,
                *left_out.KEYS,
                *left_out.DATABASES,
                *left_out.TESTS,
                ".venv",
                "venv",
            )
        ),
        *directories,
        *left_out.TOP_FILES,
        *order.exclude,
        # The last that fits decides.
        f"!{requirements_file}",
        *(f"!{each}" for each in order.include),
    ]
    return "\n".join(lines) + "\n"


def _written(directory: Path, files: dict[str, str]) -> list[Path]:
    for name in files:
        path = directory / name
        if path.exists() and not path.read_text().startswith(_HEADER):
            raise PackagingError(
                f"{path} is there, and this command has not written it: move it, or choose "
                "another directory with --output."
            )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, directory / name)
            written.append(directory / name)
    except OSError as exc:
        raise PackagingError(f"{directory} cannot be written: {exc.strerror}.") from exc
    return written
