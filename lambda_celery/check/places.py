"""Where a setting is written, for findings that are about one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from lambda_celery.check.model import Finding, Place
from lambda_celery.check.sources import Source, place_of

#: The arguments of ``Celery(…)`` that are settings under another name.
_CALLS_WITH_SETTINGS = ("update", "Celery", "dict", "configure")
_OF_THE_APP = {"result_backend": "backend", "broker_url": "broker"}


class SettingPlaces:
    """The places of settings in the project's sources, and in its ``pyproject.toml``."""

    def __init__(self, sources: Iterable[Source], root: Path, prefix: str) -> None:
        self._sources = tuple(sources)
        self._pyproject = root / "pyproject.toml"
        self._prefix = prefix

    def placed(self, finding: Finding) -> Finding:
        """Return *finding* with the place of its subject; failing that, of the app."""
        if finding.place is not None:
            return finding
        return replace(finding, place=self._of(finding.subject or "") or self.of_app)

    @cached_property
    def of_app(self) -> Place | None:
        """Where the project makes its app."""
        for source in self._sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Call) and _last(node.func) == "Celery":
                    return source.place(node.lineno)
        return None

    def _of(self, subject: str) -> Place | None:
        if subject.startswith("[tool."):
            return self._in_pyproject(subject.partition("] ")[2])
        match = re.match(r"[A-Za-z_]\w*", subject)
        if match is None:
            return None
        name = match[0]
        plain = name.removeprefix(self._prefix).lower()
        wanted = {name, plain, plain.upper(), f"{self._prefix}{plain.upper()}"}
        wanted.add(_OF_THE_APP.get(plain, plain))
        return next((self._written[each] for each in sorted(wanted) if each in self._written), None)

    @cached_property
    def _written(self) -> Mapping[str, Place]:
        found: dict[str, Place] = {}
        for source in self._sources:
            for name, line in _written(source.tree):
                if name not in found:
                    found[name] = source.place(line)
        return found

    def _in_pyproject(self, key: str) -> Place | None:
        try:
            lines = self._pyproject.read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        is_ours = False
        for number, line in enumerate(lines, 1):
            if line.startswith("["):
                is_ours = line.startswith("[tool.lambda-celery")
            if is_ours and re.match(rf"\s*{re.escape(key)}\b", line):
                return place_of(self._pyproject, number)
        return None


def _written(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno
                elif isinstance(target, ast.Attribute) and "conf" in ast.unparse(target.value):
                    yield target.attr, node.lineno
        elif isinstance(node, ast.Call) and _last(node.func) in _CALLS_WITH_SETTINGS:
            yield from ((each.arg, each.value.lineno) for each in node.keywords if each.arg)


def _last(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))
