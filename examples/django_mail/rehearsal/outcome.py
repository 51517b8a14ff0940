"""What a run came to, what it should have come to, and the table that says so."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from rich.console import Console
from rich.table import Table

from rehearsal.queue_depth import Depth
from rehearsal.smtp_sink import Mail
from rehearsal.trouble import POISON


@dataclass(frozen=True)
class Parked:
    """A message that was found on the dead-letter queue."""

    body: str
    #: What the runtime wrote into the message's attributes.
    reason: str | None


@dataclass(frozen=True)
class Row:
    """A line of the table; *holds* is ``None`` for a figure that nothing was promised about."""

    name: str
    figure: str
    promise: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class Outcome:
    """The facts, each from whoever knows it: the mail server, SQS, S3 or the producer."""

    #: Task id to address, as ``delay()`` returned them.
    enqueued: Mapping[str, str]
    #: Tasks whose message was sent twice.
    repeated: frozenset[str]
    accepted: Sequence[Mail]
    #: Mails that the server was too busy for.
    refused: Sequence[Mail]
    parked: Sequence[Parked]
    left_on_queue: Depth
    killed_process_id: int | None
    #: The tasks of the batch that the killed process was at.
    killed_batch: frozenset[str]
    #: The task whose mail has the attachment, and the attachment's size.
    attachment: tuple[str, int]
    large_bodies_received: int
    payload_objects_left: int
    enqueue_seconds: float
    seconds: float

    @cached_property
    def times_accepted(self) -> Counter[str]:
        """Task id to how often the mail server took its mail."""
        return Counter(mail.task_id for mail in self.accepted)

    @cached_property
    def arrived(self) -> set[str]:
        """Tasks whose mail arrived where it should."""
        return {m.task_id for m in self.accepted if self.enqueued.get(m.task_id) == m.recipient}

    @property
    def lost(self) -> set[str]:
        """Tasks whose mail never arrived."""
        return set(self.enqueued) - self.arrived

    @property
    def strays(self) -> list[Mail]:
        """Mails that nobody sent."""
        return [m for m in self.accepted if self.enqueued.get(m.task_id) != m.recipient]

    @property
    def twice(self) -> set[str]:
        """Tasks whose mail arrived more than once."""
        return {task_id for task_id, times in self.times_accepted.items() if times > 1}

    @property
    def killed_after_smtp(self) -> set[str]:
        """Those that the killed process had handed over, but had not yet recorded as done.

        One that was refused counts too: its retry was on the way when it was run again.
        """
        handed_over = [*self.accepted, *self.refused]
        by_killed = {m.task_id for m in handed_over if m.process_id == self.killed_process_id}
        return {
            task_id
            for task_id in self.twice & self.killed_batch & by_killed
            if self.times_accepted[task_id] == 2
        }

    @property
    def mails_per_second(self) -> float:
        """The rate, without the killed batch: it waits for its visibility time-out to end."""
        moments = [m.at_seconds for m in self.accepted if m.task_id not in self.killed_batch]
        seconds = max(moments, default=0.0) - min(moments, default=0.0)
        return len(moments) / seconds if seconds else 0.0

    def rows(self) -> list[Row]:
        """Return the table's lines."""
        refused = {mail.task_id for mail in self.refused}
        inexcusable = self.twice - self.killed_after_smtp
        attached = [m.attachment_bytes for m in self.accepted if m.task_id == self.attachment[0]]
        reasons = Counter(parked.reason or "no reason" for parked in self.parked)
        return [
            Row("enqueued", f"{len(self.enqueued):,}"),
            Row("  sent once more", f"{len(self.repeated):,}", "some", bool(self.repeated)),
            Row(
                "delivered",
                f"{len(self.arrived):,}",
                "all, and none else",
                len(self.arrived) == len(self.enqueued) and not self.strays,
            ),
            Row("delivered twice", self._names(inexcusable), "0", not inexcusable),
            # A process runs one task at a time, so one mail is all that can be in between.
            Row(
                "  killed before commit",
                self._names(self.killed_after_smtp),
                "1 at most",
                len(self.killed_after_smtp) <= 1,
            ),
            Row(
                "process killed",
                "none" if self.killed_process_id is None else f"process {self.killed_process_id}",
                "one, in mid-batch",
                self.killed_process_id is not None,
            ),
            Row(
                "retried after a 451",
                f"{len(refused & self.arrived):,}",
                f"all {len(refused):,}",
                bool(refused) and refused <= self.arrived,
            ),
            Row(
                "attachment through S3",
                f"{max(attached, default=0):,} bytes",
                f"{self.attachment[1]:,} bytes",
                set(attached) == {self.attachment[1]} and self.large_bodies_received > 0,
            ),
            Row(
                "  objects left in S3",
                f"{self.payload_objects_left:,}",
                "0",
                self.payload_objects_left == 0,
            ),
            Row(
                "parked",
                f"{len(self.parked):,}",
                "1, the poison",
                [parked.body for parked in self.parked] == [POISON],
            ),
            *(
                Row("  because", f"{count:,}: {reason}", "a reason", reason != "no reason")
                for reason, count in reasons.items()
            ),
            Row("lost", self._names(self.lost), "0", not self.lost),
            Row(
                "left on the queue",
                f"{self.left_on_queue.total:,}",
                "0",
                self.left_on_queue.total == 0,
            ),
            Row("enqueue rate", f"{len(self.enqueued) / self.enqueue_seconds:,.0f} /s"),
            Row("delivery rate", f"{self.mails_per_second:,.0f} /s"),
            Row("duration", f"{self.seconds:.0f} s"),
        ]

    def _names(self, task_ids: Set[str]) -> str:
        """Return how many there are, and the addresses of the first few."""
        addresses = sorted(self.enqueued.get(task_id, "?") for task_id in task_ids)
        named = ", ".join(addresses[:5]) + (", …" if len(addresses) > 5 else "")
        return f"{len(task_ids):,}" + (f": {named}" if named else "")

    def broken_promises(self) -> list[str]:
        """Return a line for each promise that did not hold."""
        return [
            f"{row.name.strip()}: {row.figure}, but should be {row.promise}"
            for row in self.rows()
            if row.holds is False
        ]


def show(outcome: Outcome, console: Console) -> None:
    """Print the table."""
    table = Table(title="What became of the mails", title_justify="left")
    table.add_column("")
    table.add_column("figure", justify="right", overflow="fold")
    table.add_column("promised")
    table.add_column("")
    marks = {None: "", True: "[green]✓[/green]", False: "[bold red]✗[/bold red]"}
    for row in outcome.rows():
        table.add_row(row.name, row.figure, row.promise, marks[row.holds])
    console.print(table)
