"""Files of Python source: their trees, the lines of their functions, and the comments in them."""

from __future__ import annotations

import ast
import io
import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

from lambda_celery.check.model import Place

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
#: ``# lambda-check: ignore[rule-id, other-id]``
_IGNORE = re.compile(r"#\s*lambda-check:\s*ignore\[([^\]]*)\]")
#: Folders whose code no task runs.
_ASIDE = {"test", "tests", "migrations", "node_modules", "site-packages", "__pycache__", "build"}
_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")
)


@dataclass(frozen=True)
class Source:
    """A file of Python source that can be parsed."""

    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Source | None:
        """Return the source in the file *path*, or ``None`` if there is none that parses."""
        try:
            with tokenize.open(path) as stream:
                text = stream.read()
            return cls(path, text, ast.parse(text))
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None

    def place(self, line: int) -> Place:
        """Return the *line* of this file as it is shown."""
        return place_of(self.path, line)

    @cached_property
    def functions(self) -> Mapping[int, list[Function]]:
        """The functions by the line on which their code objects say that they begin."""
        found: dict[int, list[Function]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                decorators = getattr(node, "decorator_list", [])
                line = min([node.lineno, *(each.lineno for each in decorators)])
                found.setdefault(line, []).append(node)
        return found

    @cached_property
    def classes(self) -> Mapping[str, ast.ClassDef]:
        """The classes by their qualified names, but for those in functions."""
        found: dict[str, ast.ClassDef] = {}

        def collect(body: list[ast.stmt], prefix: str) -> None:
            for node in body:
                if isinstance(node, ast.ClassDef):
                    found.setdefault(prefix + node.name, node)
                    collect(node.body, f"{prefix}{node.name}.")

        collect(self.tree.body, "")
        return found

    @cached_property
    def imports(self) -> Mapping[str, str]:
        """What the names that are imported anywhere in the file stand for, in dotted form."""
        return dict(imports_of(self.tree, self.package))

    @cached_property
    def package(self) -> str:
        """The dotted name of the package that the file is in, as far as ``__init__.py`` go."""
        parts: list[str] = []
        folder = self.path.parent
        while (folder / "__init__.py").exists() and folder.name:
            parts.insert(0, folder.name)
            folder = folder.parent
        return ".".join(parts)

    @property
    def module_name(self) -> str:
        """The dotted name of the module, as far as ``__init__.py`` files tell."""
        if self.path.stem == "__init__":
            return self.package
        return f"{self.package}.{self.path.stem}".lstrip(".")

    @cached_property
    def ignores(self) -> Mapping[int, frozenset[str]]:
        """The ids in the comments that switch rules off, by their lines."""
        if "lambda-check" not in self.text:
            return {}
        found = {}
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT and (match := _IGNORE.search(token.string)):
                ids = (each.strip() for each in match[1].split(","))
                found[token.start[0]] = frozenset(filter(None, ids))
        return found


def imports_of(tree: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Yield each name that an import in *tree*, of a module in *package*, makes, and for what."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.asname:
                    yield each.asname, each.name
                else:
                    yield each.name.partition(".")[0], each.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                above = parts[: len(parts) - node.level + 1]
                base = ".".join(filter(None, [*above, base]))
            for each in node.names:
                yield each.asname or each.name, f"{base}.{each.name}"


class Sources:
    """The files that were read, each once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, Source | None] = {}

    def get(self, path: str | Path | None) -> Source | None:
        """Return the source in the file *path*, or ``None`` if there is none that parses."""
        if not path:
            return None
        path = Path(path)
        if path not in self._read:
            self._read[path] = Source.read(path) if path.suffix == ".py" else None
        return self._read[path]

    def of_project(self) -> Iterator[Source]:
        """Yield the sources of the project: those below its root, and those it has imported.

        Left out are tests, migrations, and what is installed.
        """
        imported = {
            file
            for module in list(sys.modules.values())
            if isinstance(module, ModuleType) and (file := getattr(module, "__file__", None))
        }
        below = map(str, self._below(self.root))
        for path in sorted({Path(file) for file in imported.union(below) if is_of_project(file)}):
            if not _is_aside(path, self.root):
                source = self.get(path)
                if source is not None:
                    yield source

    def read(self) -> Iterator[Source]:
        """Yield each source that was read."""
        yield from (each for each in self._read.values() if each is not None)

    def _below(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            return
        for each in entries:
            if each.name.startswith(".") or each.is_symlink():
                continue
            if each.is_dir():
                if each.name not in _ASIDE and not (each / "pyvenv.cfg").exists():
                    yield from self._below(each)
            elif each.suffix == ".py":
                yield each


@cache  # each rule asks of the same thousands
def is_of_project(path: str) -> bool:
    """Whether the file *path* is no part of Python, and of no package that is installed."""
    resolved = Path(path).resolve()
    if resolved.suffix != ".py" or {"site-packages", "dist-packages"} & set(resolved.parts):
        return False
    ours = Path(__file__).parents[2]
    if any(resolved.is_relative_to(ours / each) for each in ("lambda_celery", "lambda_runtime")):
        return False  # an editable installation of Lambda Celery
    return not any(resolved.is_relative_to(each) for each in _LIBRARIES)


def place_of(path: str | Path, line: int) -> Place:
    """Return the *line* of the file *path* as it is shown: from the working directory, if below."""
    path = Path(path)
    for base in (Path.cwd(), Path.cwd().resolve()):
        if path.is_relative_to(base):
            return Place(path.relative_to(base).as_posix(), line)
    return Place(path.as_posix(), line)


def _is_aside(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    name = path.name
    return (
        bool(_ASIDE & set(parts))
        or name.startswith("test_")
        or name.endswith("_test.py")
        or name in {"conftest.py", "setup.py", "tests.py", "noxfile.py", "manage.py"}
    )
