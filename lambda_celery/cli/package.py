"""``celery -A proj lambda package``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from celery.bin.base import CeleryCommand, CeleryOption, handle_preload_options

from lambda_celery.cli.drawing import console
from lambda_celery.cli.errors import told_in_a_sentence
from lambda_celery.exceptions import LambdaCeleryError

if TYPE_CHECKING:
    from lambda_celery.packaging.build import Order, Package
    from lambda_celery.packaging.trial import Message, Trial
    from lambda_celery.packaging.unpacked import Initialisation

# Everything heavier is imported in the command: `celery --help` loads this module.

_SHOWN_SIZES = 15
_SHOWN_IMPORTS = 10


def _arguments(_: click.Context, __: click.Parameter, value: str) -> tuple[Any, ...]:
    try:
        arguments = json.loads(value)
    except ValueError as exc:
        raise click.BadParameter(f"It is no JSON: {exc}.") from exc
    if not isinstance(arguments, list):
        raise click.BadParameter("It is to be a JSON list, such as '[1, \"two\"]'.")
    return tuple(arguments)


@click.command("package", cls=CeleryCommand)
@click.option(
    "-o",
    "--output",
    cls=CeleryOption,
    type=click.Path(path_type=Path),
    default=None,
    help_group="Result",
    help="The zip, or the directory of the Dockerfile.  [default: dist/lambda.zip, or here]",
)
@click.option(
    "--image",
    cls=CeleryOption,
    is_flag=True,
    help_group="Result",
    help="Write a Dockerfile and a .dockerignore in the place of a zip.",
)
@click.option(
    "--try",
    "try_it",
    cls=CeleryOption,
    is_flag=True,
    help_group="Result",
    help="Run one message through the package here, with nothing else on the path.",
)
@click.option(
    "--try-task",
    cls=CeleryOption,
    default=None,
    metavar="NAME",
    help_group="Result",
    help="The message's task.  [default: celery.accumulate, which returns its arguments]",
)
@click.option(
    "--try-args",
    cls=CeleryOption,
    default="[]",
    show_default=True,
    metavar="JSON",
    callback=_arguments,
    help_group="Result",
    help="The arguments of that task: a JSON list.",
)
@click.option("--json", "as_json", cls=CeleryOption, is_flag=True, help="Print JSON for programs.")
@click.option("-q", "--quiet", cls=CeleryOption, is_flag=True, help="Print nothing but errors.")
@click.option("--verbose", cls=CeleryOption, is_flag=True, help="Name the files that are left out.")
@click.option(
    "--requirements",
    cls=CeleryOption,
    type=click.Path(path_type=Path),
    default=None,
    help_group="Content",
    help="A requirements file.  [default: uv.lock, poetry.lock, requirements.txt, pyproject.toml: "
    "the first that is there]",
)
@click.option(
    "--exclude",
    cls=CeleryOption,
    multiple=True,
    metavar="GLOB",
    help_group="Content",
    help="Leave out these paths of the package. May be given several times.",
)
@click.option(
    "--include",
    cls=CeleryOption,
    multiple=True,
    metavar="GLOB",
    help_group="Content",
    help="Take these paths although git ignores them, say. May be given several times.",
)
@click.option(
    "--without-boto3",
    cls=CeleryOption,
    is_flag=True,
    help_group="Content",
    help="Leave out boto3, botocore, s3transfer and jmespath, which Lambda's runtime has. Those "
    "can be older.",
)
@click.option(
    "--installer",
    cls=CeleryOption,
    type=click.Choice(["uv", "pip"]),
    default=None,
    help_group="Content",
    help="Who installs the requirements.  [default: uv where it is, else pip]",
)
@click.option(
    "--runtime",
    cls=CeleryOption,
    default=None,
    metavar="NAME",
    help_group="Function",
    help="The function's, such as python3.13.  [default: that in pyproject.toml, else the newest "
    "that Lambda and requires-python have]",
)
@click.option(
    "--architecture",
    cls=CeleryOption,
    type=click.Choice(["arm64", "x86_64"]),
    default=None,
    help_group="Function",
    help="The function's.  [default: that in pyproject.toml, else arm64]",
)
@click.option(
    "--handler",
    cls=CeleryOption,
    default=None,
    metavar="NAME",
    help_group="Function",
    help="The function's.  [default: that in pyproject.toml, else lambda_runtime.handler]",
)
@click.pass_context
@handle_preload_options
def package(
    ctx: click.Context,
    output: Path | None,
    image: bool,
    try_it: bool,
    try_task: str | None,
    try_args: tuple[Any, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    runtime: str | None,
    architecture: str | None,
    handler: str | None,
    **options: Any,
) -> None:
    """Build the function's deployment zip.

    The same project makes the same bytes. What the function is comes from [tool.lambda-celery]
    in pyproject.toml, and from these options, which win. What could not run on Lambda is
    refused, and then nothing is written.
    """
    root = Path.cwd()
    quiet = as_json or quiet or ctx.obj.quiet
    named = ctx.find_root().params.get("app")
    with told_in_a_sentence():
        from lambda_celery.packaging.build import Order, build
        from lambda_celery.packaging.inputs import deployment

        inputs = deployment(
            root,
            named if isinstance(named, str) else None,
            runtime=runtime,
            architecture=architecture,
            handler=handler,
            package_type="image" if image else None,
        )
        order = Order(root, inputs, **options)
        if inputs.package_type == "image":
            if try_it:
                raise click.UsageError("--try needs a zip: an image is tried where it is built.")
            _write_image(order, output or root, as_json=as_json, quiet=quiet)
            return
        made = build(order, order.target, output or Path("dist", "lambda.zip"))
        if not quiet:
            _show(made, verbose=verbose)
        trial, initialisation = None, None
        if try_it:
            from lambda_celery.packaging.trial import HARMLESS_TASK, Message

            message = Message(try_task or HARMLESS_TASK, try_args)
            trial = _try(ctx.obj.app, order, made, message, quiet=quiet)
            initialisation = trial.initialisation
        elif made.target.runs_here:
            initialisation = _initialise(order, made)
        if initialisation is not None and not quiet:
            _show_imports(initialisation)
        elif not quiet and not made.target.runs_here:
            click.echo(
                f"The package is for {made.target}, and cannot be run here: with --try, its twin "
                "for this machine is run, and the import times are measured."
            )
    if as_json:
        click.echo(json.dumps(_document(made, trial, initialisation), indent=2))


def _write_image(order: Order, directory: Path, *, as_json: bool, quiet: bool) -> None:
    from lambda_celery.packaging.image import write

    written = write(order, directory)
    if as_json:
        click.echo(json.dumps({"written": [str(each) for each in written]}, indent=2))
    elif not quiet:
        for path in written:
            click.echo(f"Written: {path}")


def _try(app: Any, order: Order, made: Package, message: Message, *, quiet: bool) -> Trial:
    from lambda_celery.packaging.build import build
    from lambda_celery.packaging.target import Target
    from lambda_celery.packaging.trial import run
    from lambda_celery.packaging.unpacked import unpacked

    def echo(line: str) -> None:
        if not quiet:
            click.echo(line)

    if made.target.runs_here:
        with unpacked(made.path) as place:
            return run(place, app, order.inputs, message, echo)
    here = Target.here()
    echo(f"The package is for {made.target}: what is tried is its twin for {here}.")
    with tempfile.TemporaryDirectory(prefix="lambda-celery-") as scratch:
        twin = build(order, here, Path(scratch) / "twin.zip")
        with unpacked(twin.path) as place:
            return run(place, app, order.inputs, message, echo)


def _initialise(order: Order, made: Package) -> Initialisation | None:
    """Measure the handler's imports; ``None``, and a line, where that cannot be done here."""
    from lambda_celery.conf import APP_VARIABLE
    from lambda_celery.packaging.unpacked import unpacked

    try:
        with unpacked(made.path) as place:
            return place.initialise(order.inputs.handler, {APP_VARIABLE: order.inputs.app})
    except LambdaCeleryError as exc:
        click.echo(f"The import times are not measured. {exc}", err=True)
        return None


def _show(made: Package, *, verbose: bool) -> None:
    from rich.table import Table

    from lambda_celery.packaging.sizes import megabytes

    table = Table("package", "version", title_justify="left", box=None, pad_edge=False)
    table.add_column("unpacked", justify="right")
    table.add_column("zipped", justify="right")
    shown = made.sizes[:_SHOWN_SIZES]
    for each in shown:
        table.add_row(
            each.name, each.version, megabytes(each.unzipped_bytes), megabytes(each.zipped_bytes)
        )
    if rest := made.sizes[_SHOWN_SIZES:]:
        table.add_row(
            f"{len(rest)} more",
            "",
            megabytes(sum(each.unzipped_bytes for each in rest)),
            megabytes(sum(each.zipped_bytes for each in rest)),
        )
    console(sys.stdout).print(table)
    lines = [
        "",
        f"Written: {made.path}, {megabytes(made.zipped_bytes)}, and unpacked "
        f"{megabytes(made.unzipped_bytes)} of 262.1 MB.",
        f"It has {made.source}, for {made.target}. SHA-256: {made.sha256}",
        *(f"Could be left out: {each}" for each in made.advice),
    ]
    for line in lines:
        click.echo(line)
    for note in made.notes:
        click.echo(f"Note: {note}", err=True)
    if verbose:
        for kind, names in made.left_out.items():
            for name in names:
                click.echo(f"Left out: {name} ({kind})", err=True)
        for name in made.untracked:
            click.echo(f"Packed, and not tracked: {name}", err=True)


def _show_imports(initialisation: Initialisation) -> None:
    from rich.table import Table

    table = Table("package", box=None, pad_edge=False)
    table.add_column("ms", justify="right")
    for each in initialisation.import_times[:_SHOWN_IMPORTS]:
        table.add_row(each.package, f"{each.own_ms:.0f}")
    click.echo(
        f"\nThe handler's imports take {initialisation.total_ms:.0f} ms on this machine, measured "
        "one by one, which makes them slower. The dearest:"
    )
    console(sys.stdout).print(table)


def _document(
    made: Package, trial: Trial | None, initialisation: Initialisation | None
) -> dict[str, Any]:
    document = made.as_json()
    if initialisation is not None:
        document["imports_ms"] = initialisation.total_ms
        document["imports"] = [vars(each) for each in initialisation.import_times[:_SHOWN_IMPORTS]]
    if trial is not None:
        document["trial"] = trial.as_json()
    return document
