"""The table that says what a run came to, and whether that is what was promised."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """A line of the table; *holds* is ``None`` for a figure that nothing was promised about."""

    name: str
    figure: str
    promise: str = ""
    holds: bool | None = None


def show(title: str, rows: Iterable[Row], console: Console) -> int:
    """Print the table, and each promise that is broken; return the status to end with."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("figure", justify="right", overflow="fold")
    table.add_column("promised")
    table.add_column("")
    marks = {None: "", True: "[green]✓[/green]", False: "[bold red]✗[/bold red]"}
    broken = []
    for row in rows:
        table.add_row(row.name, row.figure, row.promise, marks[row.holds])
        if row.holds is False:
            broken.append(f"{row.name.strip()}: {row.figure}, but should be {row.promise}")
    console.print(table)
    for promise in broken:
        console.print(f"[bold red]Broken:[/] {promise}", highlight=False, soft_wrap=True)
    return 1 if broken else 0
