"""What a run came to, what it should have come to, and the table that says so."""

from collections import Counter
from collections.abc import Sequence, Set
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

    #: To whom a mail was sent; once each.
    enqueued: Set[str]
    #: Those whose message was sent twice.
    repeated: Set[str]
    #: To whom the task mails its report.
    report_to: str
    accepted: Sequence[Mail]
    #: Mails that the server was too busy for.
    refused: Sequence[Mail]
    parked: Sequence[Parked]
    left_on_queue: Depth
    killed_process_id: int | None
    #: The recipients of the batch that the killed process was at.
    killed_batch: Set[str]
    #: Those whose mail has the attachment, and the attachment's size.
    with_attachment: Set[str]
    attachment_bytes: int
    objects_in_s3: int
    enqueue_seconds: float
    seconds: float

    @cached_property
    def expected(self) -> Set[str]:
        """Everybody who is to get a mail: the report's recipient as well."""
        return self.enqueued | {self.report_to}

    @cached_property
    def times_accepted(self) -> Counter[str]:
        """Recipient to how often the mail server took a mail for them."""
        return Counter(mail.recipient for mail in self.accepted)

    @cached_property
    def arrived(self) -> set[str]:
        """Those who got their mail."""
        return {mail.recipient for mail in self.accepted if not self._is_stray(mail)}

    @property
    def lost(self) -> Set[str]:
        """Those whose mail never arrived."""
        return self.expected - self.arrived

    @property
    def strays(self) -> list[Mail]:
        """Mails that nobody sent, or that somebody else was to get."""
        return [mail for mail in self.accepted if self._is_stray(mail)]

    def _is_stray(self, mail: Mail) -> bool:
        return mail.recipient not in self.expected or mail.to != mail.recipient

    @property
    def twice(self) -> set[str]:
        """Those who got a mail more than once."""
        return {recipient for recipient, times in self.times_accepted.items() if times > 1}

    @property
    def killed_after_smtp(self) -> set[str]:
        """Those whose mail the killed process had handed over, but had not yet recorded as done.

        One that was refused counts too: its retry was on the way when it was run again. Whoever
        gets a mail twice can tell by its ``Message-ID``.
        """
        handed_over = [*self.accepted, *self.refused]
        by_killed = {m.recipient for m in handed_over if m.process_id == self.killed_process_id}
        return {
            recipient
            for recipient in self.twice & self.killed_batch & by_killed
            if self.times_accepted[recipient] == 2
            and len({m.message_id for m in self.accepted if m.recipient == recipient}) == 1
        }

    @property
    def mails_per_second(self) -> float:
        """The rate, without the killed batch: it waits for its visibility time-out to end."""
        moments = [m.at_seconds for m in self.accepted if m.recipient not in self.killed_batch]
        seconds = max(moments, default=0.0) - min(moments, default=0.0)
        return len(moments) / seconds if seconds else 0.0

    def rows(self) -> list[Row]:
        """Return the table's lines."""
        refused = {mail.recipient for mail in self.refused}
        inexcusable = self.twice - self.killed_after_smtp
        attached = {m.recipient: m.attachment_bytes for m in self.accepted if m.attachment_bytes}
        whole = [r for r, size in attached.items() if size == self.attachment_bytes]
        reports = self.times_accepted[self.report_to]
        reasons = Counter(parked.reason or "no reason" for parked in self.parked)
        return [
            Row("enqueued", f"{len(self.enqueued):,}"),
            Row("  sent once more", f"{len(self.repeated):,}", "some", bool(self.repeated)),
            Row(
                "delivered",
                f"{len(self.arrived & self.enqueued):,}",
                "all, and none else",
                self.enqueued <= self.arrived and not self.strays,
            ),
            Row("  the task's report", f"{reports:,}", "1", self.report_to in self.arrived),
            Row("delivered twice", self._names(inexcusable), "0", not inexcusable),
            # A process sends one mail at a time, so one is all that can be in between.
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
                f"{len(whole):,} of {self.attachment_bytes:,} bytes",
                f"{len(self.with_attachment):,}",
                set(attached) == set(whole) == self.with_attachment,
            ),
            Row(
                "  objects in S3",
                f"{self.objects_in_s3:,}",
                "1 for all",
                self.objects_in_s3 == 1,
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

    def _names(self, recipients: Set[str]) -> str:
        """Return how many there are, and the first few."""
        named = ", ".join(sorted(recipients)[:5]) + (", …" if len(recipients) > 5 else "")
        return f"{len(recipients):,}" + (f": {named}" if named else "")

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
