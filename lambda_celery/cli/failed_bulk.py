"""One thing done with many failed tasks: counted first, at a rate, until somebody stops it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from lambda_celery.cli.failed_output import print_counts
from lambda_celery.cli.stopping import Stop
from lambda_celery.exceptions import LambdaCeleryError
from lambda_celery.failures import Done, Failure
from lambda_celery.failures.dead_letters import Fate
from lambda_celery.terminal import printable

#: Of so many, each is told in a line.
_TOLD = 20


@dataclass
class Bulk:
    """Something that is done with many failures.

    :ivar told: the word for it, when it is done.
    :ivar per_second: how many at most.
    :ivar is_sure: whether nobody is asked first.
    :ivar is_dry: whether it is only shown.
    """

    told: str
    per_second: float
    is_sure: bool
    is_dry: bool

    def work_off(
        self, choose: Callable[[], Iterator[Failure]], act: Callable[[Failure], Done]
    ) -> list[Done]:
        """Do *act* with each of what *choose* yields, twice; return what was done, if it is little.

        What cannot be done is told, and ends the command with a failure when all others are done.
        """
        counts: Counter[tuple[str, str, str]] = Counter()
        newest = datetime.min.replace(tzinfo=UTC)
        for each in choose():
            counts[each.task, each.exception or each.reason, each.queue] += 1
            newest = max(newest, each.failed_at)
        total = counts.total()
        if not total:
            click.echo("No failed task matches.")
            return []
        if self.is_dry or not self.is_sure:
            print_counts(counts)
        if self.is_dry:
            click.echo("Nothing was changed.")
            return []
        if not self.is_sure:
            what = "1 failed task is" if total == 1 else f"{total} failed tasks are"
            click.confirm(f"{what} to be {self.told.lower()}. Go on?", abort=True)
        # What has failed since, perhaps for the second time, was not counted.
        counted = filter(lambda each: each.failed_at <= newest, choose())
        return self._worked_off(counted, act, total)

    def _worked_off(
        self, failures: Iterator[Failure], act: Callable[[Failure], Done], total: int
    ) -> list[Done]:
        every: list[Done] = []
        done = refused = left = 0
        why_left = ""
        next_at = time.monotonic()
        with Stop() as stop, _progress(total) as advance:
            for failure in failures:
                if stop.within(next_at - time.monotonic()):
                    break
                next_at = max(next_at, time.monotonic() - 1) + 1 / self.per_second
                try:
                    result = act(failure)
                except LambdaCeleryError as exc:
                    refused += 1
                    told = f"{failure.task} {failure.task_id}: {exc}"
                    click.echo(printable(told), err=True)
                    if exc.is_misconfigured:  # the others would be refused as well
                        break
                else:
                    done += 1
                    if result.dead_letter is Fate.UNKNOWN:
                        left, why_left = left + 1, why_left or result.refusal
                    if total <= _TOLD:
                        every.append(result)
                        click.echo(printable(str(result)))
                advance()
        if stop.is_asked:
            click.echo(
                f"Stopped. {self.told}: {done} of {total}. The same command goes on with the "
                "others.",
                err=True,
            )
            raise click.exceptions.Exit(130)
        if total > _TOLD:
            click.echo(f"{self.told}: {done}.")
            if left:
                click.echo(
                    f"The dead letters of {left} are still on their queue. {why_left}".rstrip()
                )
        if refused:
            raise click.ClickException(f"{self.told}: {done} of {total}. See what is said above.")
        return every


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Yield what says that one more of *total* is worked off; a person sees a bar of many."""
    if total <= _TOLD or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        job = bar.add_task("failed tasks", total=total)
        yield lambda: bar.advance(job)
