"""Where files of a form find what is in the project."""

from __future__ import annotations

from pathlib import PurePosixPath

#: Where ``celery lambda package`` puts the zip, in the project's directory.
PACKAGE = "dist/lambda.zip"


def in_project(project: str, path: str) -> str:
    """Return *path* of the project as files see it whose way to the project is *project*."""
    return (PurePosixPath(project) / path).as_posix()
