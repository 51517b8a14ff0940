"""From a project to its deployment zip."""

from __future__ import annotations

import glob
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_celery.infrastructure.inputs import Deployment
from lambda_celery.packaging import archive, bytecode, checks, distributions, left_out, requirements
from lambda_celery.packaging.errors import PackagingError
from lambda_celery.packaging.installing import install
from lambda_celery.packaging.own_files import OwnFiles, own_files, source_root
from lambda_celery.packaging.sizes import Size, advice, megabytes, sizes
from lambda_celery.packaging.target import Target


@dataclass(frozen=True)
class Order:
    """What to build.

    Attributes:
        root: the project's directory.
        inputs: app, handler, runtime, architecture.
        requirements: the file that is to be taken, and none of the project's own locks.
        exclude: globs of paths in the package that are left out.
        include: globs of paths that are taken although they would be left out.
        without_boto3: leave out what of it Lambda's runtime has.
        installer: ``uv`` or ``pip``; default: uv where it is, else pip.
    """

    root: Path
    inputs: Deployment
    requirements: Path | None = None
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    without_boto3: bool = False
    installer: str | None = None

    @property
    def target(self) -> Target:
        """Where the function runs."""
        return Target.of(self.inputs.runtime, self.inputs.architecture)


@dataclass(frozen=True)
class Package:
    """A deployment zip that was written.

    Attributes:
        path: the zip.
        target: where it runs.
        source: where its requirements came from, in words.
        zipped_bytes: the zip's size.
        unzipped_bytes: what it takes unpacked.
        sha256: the zip's, in hexadecimal digits.
        sizes: what each distribution takes, the biggest first.
        advice: what could be left out.
        left_out: what of the project's own files is left out, by kind.
        untracked: what of them is packed, though git does not track it.
        notes: what the user should know.
    """

    path: Path
    target: Target
    source: str
    zipped_bytes: int
    unzipped_bytes: int
    sha256: str
    sizes: list[Size]
    advice: list[str]
    left_out: dict[str, list[str]]
    untracked: list[str]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON's kinds."""
        return {
            "path": str(self.path),
            "python": self.target.version,
            "machine": self.target.machine,
            "requirements": self.source,
            "zipped_bytes": self.zipped_bytes,
            "unzipped_bytes": self.unzipped_bytes,
            "sha256": self.sha256,
            "sizes": [vars(each) for each in self.sizes],
            "advice": self.advice,
            "left_out": self.left_out,
            "untracked": self.untracked,
            "notes": self.notes,
        }


def build(order: Order, target: Target, output: Path) -> Package:
    """Build the zip that *order* describes for *target*, and write it to *output*.

    Raises:
        PackagingError: it cannot be built, or could not run there; *output* is as it was.
    """
    archive.check_output(output)
    with tempfile.TemporaryDirectory(prefix="lambda-celery-") as name:
        scratch, directory = Path(name), Path(name) / "package"
        directory.mkdir()
        found = requirements.find(order.root, order.requirements, scratch)
        note = install(found, target, directory, root=order.root, installer=order.installer)
        notes = [note] if note else []
        installed = distributions.installed(directory)
        to_runtime = left_out.RUNTIMES_OWN if order.without_boto3 else ()
        distributions.without(directory, installed, to_runtime)
        left_out.prune(directory, order.include)
        own = _add_own(order, directory, output)
        notes.extend(own.notes())
        for path in archive.files_in(directory):
            if left_out.is_matched(path.relative_to(directory).as_posix(), order.exclude):
                path.unlink()
        left_out.remove_empty(directory)
        if (note := bytecode.compile_modules(directory, target)) is None:
            bytecode.check_compiled(directory, list(own.files))
        else:
            notes.append(note)
        kept = [each for each in installed if each.name not in to_runtime]
        _refuse(
            [
                *checks.unmet_requirements(kept, target, to_runtime),
                *checks.missing_app(directory, order.inputs.app),
                *checks.missing_handler(directory, order.inputs.handler),
                *checks.foreign_wheels(kept, target),
                *checks.foreign_libraries(directory, target),
                *checks.wrong_size(directory),
            ],
            kept,
            directory,
        )
        zipped = archive.write(directory, output)
        by_size = sizes(directory, kept, zipped)
        size = output.stat().st_size
        if size > checks.MAXIMUM_UPLOAD_BYTES:
            notes.append(
                f"The zip has {megabytes(size)}, and Lambda's API takes "
                f"{megabytes(checks.MAXIMUM_UPLOAD_BYTES)} directly: upload it by way of S3, as "
                "SAM and CDK do."
            )
        return Package(
            path=output,
            target=target,
            source=found.source,
            zipped_bytes=size,
            unzipped_bytes=sum(each.unzipped_bytes for each in by_size),
            sha256=hashlib.sha256(output.read_bytes()).hexdigest(),
            sizes=by_size,
            advice=advice(by_size, directory),
            left_out=own.left_out,
            untracked=own.untracked,
            notes=notes,
        )


def _add_own(order: Order, directory: Path, output: Path) -> OwnFiles:
    """Copy the project's files into *directory*, over what was there, and return them."""
    source = source_root(order.root, order.inputs.app)
    # An older zip is none of them, and would be in the new one.
    older = (
        [glob.escape(output.resolve().relative_to(source.resolve()).as_posix())]
        if output.resolve().is_relative_to(source.resolve())
        else []
    )
    own = own_files(source, order.root, exclude=[*order.exclude, *older], include=order.include)
    for name, path in own.files.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return own


def _refuse(sentences: list[str], kept: list[distributions.Installed], directory: Path) -> None:
    if not sentences:
        return
    if any("unpacked" in each for each in sentences):
        biggest = sizes(directory, kept, {})[:5]
        told = ", ".join(f"{each.name} {megabytes(each.unzipped_bytes)}" for each in biggest)
        sentences = [*sentences, f"The biggest: {told}."]
    raise PackagingError("\n".join(sentences))
