"""The project's own files: what git does not ignore, without what no task needs."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from lambda_celery.packaging import left_out
from lambda_celery.packaging.left_out import is_matched, is_named
from lambda_celery.packaging.listing import all_files, list_files

_TOLD_NAMES = 5
SECRETS = "secrets"
_FOR_DEVELOPERS = "files for development and deployment"
_VIRTUAL_ENVIRONMENT = "pyvenv.cfg"


@dataclass(frozen=True)
class OwnFiles:
    """What of the project is packed.

    Attributes:
        files: by their paths in the package.
        left_out: by kind, what is not packed; a directory ends with ``/``.
        untracked: what is packed, and git does not track.
        keys: what is packed, and has the name of a key.
        has_git: whether git was asked for what it tracks.
    """

    files: dict[str, Path]
    left_out: dict[str, list[str]]
    untracked: list[str]
    keys: list[str]
    has_git: bool

    def notes(self) -> Iterator[str]:
        """Yield what the user should know of it."""
        if secrets := self.left_out.get(SECRETS):
            yield (
                f"Left out, because secrets have such names: {_some(secrets)}. --include GLOB "
                "takes them all the same."
            )
        if self.keys:
            yield (
                f"Packed, though keys have such names: {_some(self.keys)}. --exclude GLOB leaves "
                "them out."
            )
        if self.untracked and self.has_git:
            yield (
                f"Packed, though git does not track them ({len(self.untracked)}): "
                f"{_some(self.untracked)}. --exclude GLOB leaves them out."
            )
        if not self.has_git:
            yield (
                "No git repository says what belongs to the project: packed is what .gitignore "
                "does not name, if git is there to read it, else all."
            )
        others = {kind: names for kind, names in self.left_out.items() if kind != SECRETS}
        if others:
            told = ", ".join(f"{kind} ({len(names)})" for kind, names in others.items())
            yield f"Left out of the project's own files: {told}. --verbose names them."


def source_root(root: Path, app: str) -> Path:
    """Return where the project's import path begins: *root*, or its ``src``, where *app* is."""
    top = app.partition(":")[0].partition(".")[0]
    src = root / "src"
    if (src / top).is_dir() or (src / f"{top}.py").exists():
        return src
    return root


def own_files(
    source: Path, root: Path, *, exclude: Iterable[str], include: Iterable[str]
) -> OwnFiles:
    """Return the files of the project.

    Arguments:
        source: where the project's import path begins.
        root: the project's directory, which no link may leave.
        exclude: globs of what else is left out.
        include: globs of what is taken although it would be left out: git ignores it, say.

    Raises:
        PackagingError: a link leaves the project, a submodule is not checked out, or git is
            here and fails.
    """
    exclude, include = list(exclude), list(include)
    # What is included is taken from the directory itself, wherever a link of it leads.
    included = [
        name
        for name in (all_files(source) if include else [])
        if is_matched(name, include) and _environment(source, name) is None
    ]
    listing = list_files(
        source,
        root,
        lambda name, is_tracked: (
            not (
                is_matched(name, [*exclude, *include])
                or _useless(source, name, is_tracked=is_tracked)
            )
        ),
    )
    listed = [*listing.tracked, *listing.untracked]
    names = [name for name in listed if not is_matched(name, [*exclude, *include])]
    tracked = set(listing.tracked)
    kinds = _Kinds(source, names, tracked)
    left: dict[str, set[str]] = {"broken links": set(listing.broken)} if listing.broken else {}
    kept = set()
    for name in names:
        if (found := kinds.of(name)) is None:
            kept.add(name)
        else:
            kind, named = found
            left.setdefault(kind, set()).add(named)
    packed = {*kept, *_within(source, included)}
    files = {name: source / name for name in sorted(packed) if not is_matched(name, exclude)}
    return OwnFiles(
        files=files,
        left_out={kind: sorted(left[kind]) for kind in sorted(left)},
        untracked=[name for name in files if name in kept and name not in tracked],
        keys=[name for name in files if is_named(name, left_out.KEYS)],
        has_git=listing.has_git,
    )


def _environment(source: Path, name: str) -> PurePosixPath | None:
    """Return the virtual environment that *name* is, or is in."""
    for path in (*_above(name), PurePosixPath(name)):
        if (source / path / _VIRTUAL_ENVIRONMENT).exists():
            return path
    return None


def _useless(source: Path, name: str, *, is_tracked: bool) -> tuple[str, str] | None:
    """Return the kind of *name*, and what of it is told, if its path says that it is left out."""
    if (environment := _environment(source, name)) is not None:
        return "virtual environments", f"{environment}/"
    secrets = left_out.SECRETS if is_tracked else (*left_out.SECRETS, *left_out.KEYS)
    if not name.endswith(".py") and is_named(name, secrets):
        return SECRETS, name
    for part in (*_above(name), PurePosixPath(name)):
        if is_named(part.name, left_out.CACHES):
            return "caches", name if str(part) == name else f"{part}/"
    if not is_tracked and is_named(name, left_out.DATABASES):
        return "databases", name
    top, _, below = name.partition("/")
    # A link to a directory, or a submodule, is one entry.
    if not below and not (source / name).is_dir():
        return (_FOR_DEVELOPERS, name) if is_named(top, left_out.TOP_FILES) else None
    if (source / top / "__init__.py").exists():
        return None
    if top in left_out.TOP_DIRECTORIES or is_named(top, left_out.TOP_FILES):
        return _FOR_DEVELOPERS, f"{top}/"
    return ("uploads", f"{top}/") if top == left_out.UPLOADS and not is_tracked else None


class _Kinds:
    """Tells which files are left out, and as what."""

    def __init__(self, source: Path, names: list[str], tracked: Collection[str]) -> None:
        self._source = source
        self._tracked = tracked
        modules = {name for name in names if name.endswith(".py")}
        self._with_modules = {str(above) for name in modules for above in _above(name)}
        self._imported: set[str] = set()
        # What is imported from outside of tests is no test alone, nor is what that imports.
        while others := {name for name in modules if self.of(name) is None}:
            self._imported.update(each for name in others for each in _imported(source, name))
            modules -= others

    def of(self, name: str) -> tuple[str, str] | None:
        """Return the kind of the file *name*, and what is to be named; ``None``: it is taken."""
        useless = _useless(self._source, name, is_tracked=name in self._tracked)
        if useless is not None:
            return useless
        for above in _above(name):
            if str(above) in self._with_modules and self._is_test(above):
                return "tests", f"{above}/"
        if name.endswith(".py") and self._is_test(PurePosixPath(name)):
            return "tests", name
        return None

    def _is_test(self, path: PurePosixPath) -> bool:
        return (
            any(fnmatchcase(path.name, each) for each in left_out.TESTS)
            and ".".join(path.with_suffix("").parts) not in self._imported
        )


def _above(name: str) -> list[PurePosixPath]:
    """Return the directories above *name*, the uppermost first."""
    return [each for each in reversed(PurePosixPath(name).parents) if each.name]


def _imported(source: Path, name: str) -> Iterator[str]:
    """Yield what may be tests of what the module *name* imports, with the packages above.

    It is nothing if the module is broken. A name that is imported from a module may be a module.
    """
    text = (source / name).read_bytes()
    # Every one of TESTS has this in its name, and parsing all modules takes seconds.
    if b"test" not in text:
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    package = PurePosixPath(name).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            of: tuple[str, ...] = ()
            if isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                of = (*above, *(node.module or "").split("."))
            for alias in node.names:
                parts = [part for part in (*of, *alias.name.split(".")) if part]
                yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _within(source: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield *names*, and in the place of a link to a directory what is in there."""
    for name in names:
        if (source / name).is_dir():
            yield from (f"{name}/{each}" for each in all_files(source / name))
        elif (source / name).exists():
            yield name


def _some(names: list[str]) -> str:
    more = len(names) - _TOLD_NAMES
    return ", ".join(names[:_TOLD_NAMES]) + (f" and {more} more" if more > 0 else "")
