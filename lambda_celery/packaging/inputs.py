"""What a package is made of, as ``[tool.lambda-celery]`` in ``pyproject.toml`` says it."""

from __future__ import annotations

from pathlib import Path

from lambda_celery.infrastructure.inputs import STANZA, Deployment, newest_runtime, read_toml
from lambda_celery.packaging.errors import PackagingError

#: A package is the same by any name. The infrastructure asks for one.
_ANY_NAME = "package"


def deployment(root: Path, app: str | None, **flags: str | None) -> Deployment:
    """Return the stanza in *root*'s ``pyproject.toml``, overridden by *flags* that are given.

    Arguments:
        root: the project's directory. It need have no stanza, nor such a file.
        app: the app that the command was given, where the stanza names none.
        flags: inputs of the infrastructure, such as ``runtime``.

    Raises:
        PackagingError: there is no app.
        ConfigurationError: the file is no TOML, or an input cannot be meant.
    """
    path = root / "pyproject.toml"
    document = read_toml(path) if path.exists() else {}
    stanza = document.get("tool", {}).get("lambda-celery", {})
    if not isinstance(stanza, dict):
        return Deployment.parse(stanza)  # which says what is wrong with it
    given = {name: value for name, value in flags.items() if value is not None}
    if "app" not in stanza and app is None:
        raise PackagingError(
            f'Name the Celery app: celery -A proj lambda package, or app = "proj" in [{STANZA}].'
        )
    inputs = {"app": app, "name": _ANY_NAME, **stanza, **given}
    if "runtime" not in inputs:
        inputs["runtime"] = newest_runtime(document)
    return Deployment.parse(inputs)
