"""The stanza in ``pyproject.toml``: what it says, and what is added to it."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from lambda_celery.infrastructure.inputs import STANZA, Deployment, read_toml
from lambda_celery.init.errors import InitError

_TABLE = STANZA.rpartition(".")[2]


class Stanza:
    """``[tool.lambda-celery]`` of a file that need not have it, nor be there.

    :ivar path: the file.
    :ivar text: what is in it; ``None`` if there is none.
    :ivar values: what the stanza says.
    """

    def __init__(self, path: Path) -> None:
        """Read the file *path*.

        Raises :exc:`ConfigurationError` if it is no TOML, or the stanza is no table.
        """
        self.path = path
        self._document = read_toml(path) if path.exists() else {}
        self.text = path.read_bytes().decode() if path.exists() else None
        tool = self._document.get("tool", {})
        self._is_there = _TABLE in tool
        stanza = tool.get(_TABLE, {})
        if not isinstance(stanza, Mapping):
            Deployment.parse(stanza)  # which says what is wrong with it
        self.values: Mapping[str, Any] = stanza

    @property
    def project_name(self) -> str | None:
        """The name in ``[project]``."""
        project = self._document.get("project", {})
        name = project.get("name") if isinstance(project, Mapping) else None
        return name if isinstance(name, str) else None

    def with_values(self, values: Mapping[str, Any]) -> str:
        """Return the file's text with *values* in the stanza. All else in it stays as it is.

        Raises :exc:`InitError` if they cannot be written there.
        """
        if all(self.values.get(key) == each for key, each in values.items()) and self.text:
            return self.text
        wanted = copy.deepcopy(dict(self._document))
        wanted.setdefault("tool", {}).setdefault(_TABLE, {}).update(values)
        try:
            text = self._changed(values) if self._is_there else self._appended(values)
            is_right = tomllib.loads(text) == wanted
        except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, AttributeError):
            is_right = False
        if not is_right:
            keys = ", ".join(values)
            raise InitError(
                f"{self.path.name} is written in a way that cannot be added to: put {keys} into a "
                f"table [{STANZA}] by hand."
            )
        return text

    def document(self, text: str) -> Mapping[str, Any]:
        """Return *text*, which :meth:`with_values` made, as TOML is read."""
        return tomllib.loads(text)

    def _changed(self, values: Mapping[str, Any]) -> str:
        document = tomlkit.parse(self.text or "")
        stanza: Any = document["tool"][_TABLE]
        for key, each in values.items():
            stanza[key] = _item(each)
        return tomlkit.dumps(document)

    def _appended(self, values: Mapping[str, Any]) -> str:
        # The file's other tables may lie anywhere, also those of [tool]: a table at the end is
        # right with all of them.
        stanza = tomlkit.table()
        for key, each in values.items():
            stanza[key] = _item(each)
        tool = tomlkit.table(is_super_table=True)
        tool[_TABLE] = stanza
        added = tomlkit.document()
        added["tool"] = tool
        own = self.text or ""
        if own and not own.endswith("\n"):
            own += "\n"
        line_end = "\r\n" if "\r\n" in own else "\n"
        text = ("\n" if own else "") + tomlkit.dumps(added)
        return own + text.replace("\n", line_end)


def _item(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    table = tomlkit.table()
    for name, each in value.items():
        row = tomlkit.inline_table()
        row.update(each)
        table[name] = row
    return table
