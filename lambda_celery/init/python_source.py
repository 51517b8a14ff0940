"""A Python module's text: read in its own encoding, and added to between statements."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class UnfitSourceError(Exception):
    """A module cannot be read, or cannot be added to."""


@dataclass(frozen=True)
class PythonSource:
    """What a module's file says.

    :ivar text: with the line ends of the file.
    :ivar encoding: that of the file, by its mark or its coding line, as Python's codecs are named.
    :ivar tree: the text, parsed.
    """

    text: str
    encoding: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> PythonSource:
        """Return what is in the file *path*.

        Raises :exc:`UnfitSourceError` if it is no Python.
        """
        try:
            own = path.read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(own).readline)
            return cls(own.decode(encoding), encoding, ast.parse(own))
        # ValueError: bytes that are not of the encoding, and a NUL.
        except (OSError, SyntaxError, ValueError) as exc:
            raise UnfitSourceError(str(exc)) from exc

    def with_added(self, imports: Sequence[str], body: Sequence[str]) -> str:
        """Return the text with *imports* after the first imports, and the lines of *body* at last.

        An import that is there is not added again. What runs when the module is the program stays
        behind *body*. Every line that is there stays as it is.

        Raises :exc:`UnfitSourceError` if that makes no module that says all that this one says.
        """
        lines = _lines(self.text)
        imports_end = self._imports_end(lines)
        end = max(self._end(lines), imports_end)
        there = {ast.unparse(each) for each in self.tree.body if isinstance(each, ast.Import)}
        gap = ["", ""] if end < len(lines) and lines[end].strip() else []
        line_end = _line_end(lines)
        added = [
            (imports_end, [each for each in imports if each not in there]),
            (end, ["", *body, *gap]),
        ]
        for position, each in reversed(added):
            if each and position and not lines[position - 1].endswith(("\n", "\r")):
                lines[position - 1] += line_end
            lines[position:position] = [line + line_end for line in each]
        text = "".join(lines)
        self._check(text)
        return text

    def _imports_end(self, lines: Sequence[str]) -> int:
        """Return after how many lines the first of the module's imports end."""
        end = 0
        for node in self.tree.body:
            is_on_the_same_line = node.lineno <= end
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if (
                is_on_the_same_line
                or isinstance(node, ast.Import | ast.ImportFrom)
                or (is_docstring and not end)
            ):
                end = node.end_lineno or node.lineno
            else:
                break
        if not end:
            # Behind the coding line, which has to be one of the first two.
            while end < len(lines) and lines[end].startswith("#"):
                end += 1
        return end

    def _end(self, lines: Sequence[str]) -> int:
        """Return after how many lines the module ends, but for what runs as the program."""
        end = len(lines)
        for node in self.tree.body:
            if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
                end = node.lineno - 1
                break
        while end and not lines[end - 1].strip():
            end -= 1
        return end

    def _check(self, text: str) -> None:
        try:
            now = [ast.dump(each) for each in ast.parse(text.encode(self.encoding)).body]
        except (SyntaxError, ValueError) as exc:
            raise UnfitSourceError(str(exc)) from exc
        kept = iter(now)
        if not all(ast.dump(each) in kept for each in self.tree.body):
            raise UnfitSourceError("A statement would be another one.")


def _lines(text: str) -> list[str]:
    # As Python counts them: str.splitlines() knows ends that are none to it.
    return io.StringIO(text, newline="").readlines()


def _line_end(lines: Sequence[str]) -> str:
    first = lines[0] if lines else ""
    return first[len(first.rstrip("\r\n")) :] or "\n"
