"""What a run came to, and what it should have come to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.table import Table

from examples.kit.runs import DONE, Run
from examples.kit.table import Row
from examples.split_and_work.watched import Invocation


@dataclass(frozen=True)
class Outcome:
    """The facts. A call is known by the mark that all its messages have."""

    #: How often each number stands in the file: some rows are equal.
    in_file: Counter[int]
    runs: Sequence[Run]
    #: The marks of the calls, by the ids of the tasks.
    mark_of: Mapping[str, str]
    deliveries: Counter[str]
    messages: int
    sent_twice: int
    split_deliveries: int
    #: Those of the splitting function, and of the working one, whose process was killed.
    split_killed: Sequence[Invocation]
    work_killed: Sequence[Invocation]
    #: Calls that the killed splitting process had made.
    calls_before_death: int
    parked: int
    left_on_queues: int

    @property
    def rows_in_file(self) -> int:
        return self.in_file.total()

    @cached_property
    def times_run(self) -> Counter[str]:
        """How often each call ran to its end, by its mark."""
        return Counter(self.mark_of[run.task_id] for run in self.runs if run.how == DONE)

    def rows(self) -> list[Row]:
        """Return the table's lines."""
        ran = Counter(run.number for run in self.runs if run.how == DONE)
        missing = self.in_file - ran
        too_often = ran - self.in_file
        equal = sum(times for times in self.in_file.values() if times > 1)
        delivered_again = sum(times > 1 for times in self.deliveries.values())
        return [
            Row("rows in the file", f"{self.rows_in_file:,}"),
            Row("  of which some are equal", f"{equal:,}", "some", equal > 0),
            Row(
                "the splitting task was delivered",
                f"{self.split_deliveries} times",
                "twice or more",
                self.split_deliveries >= 2,
            ),
            Row(
                "  its process was killed",
                f"{len(self.split_killed)} time, at row {self.calls_before_death:,}",
                "once, in the middle",
                len(self.split_killed) == 1,
            ),
            Row(
                "messages that its runs have sent",
                f"{self.messages - self.sent_twice:,}",
                f"more than {self.rows_in_file:,}",
                self.messages - self.sent_twice > self.rows_in_file,
            ),
            Row("  sent twice besides", f"{self.sent_twice:,}", "some", self.sent_twice > 0),
            Row(
                "  calls that they are of",
                f"{len(self.deliveries):,}",
                f"{self.rows_in_file:,}, one a row",
                len(self.deliveries) == self.rows_in_file,
            ),
            Row(
                "a working process was killed",
                f"{len(self.work_killed)} time",
                "once, in mid-batch",
                len(self.work_killed) == 1 and self.work_killed[0].messages > 1,
            ),
            Row(
                "calls delivered more than once",
                f"{delivered_again:,}",
                "some",
                delivered_again > 0,
            ),
            Row(
                "rows that ran",
                f"{sum((ran & self.in_file).values()):,}",
                "all",
                not missing,
            ),
            Row("  not at all", f"{missing.total():,}", "0", not missing),
            Row("  more often than they should", f"{too_often.total():,}", "0", not too_often),
            Row("parked", f"{self.parked}", "0", self.parked == 0),
            Row("left on the queues", f"{self.left_on_queues}", "0", self.left_on_queues == 0),
        ]

    def times(self) -> Table:
        """Return how many calls were delivered, and ran, how many times."""
        delivered = Counter(self.deliveries.values())
        ran = Counter(self.times_run[mark] for mark in self.deliveries)
        table = Table("times", title="How often", title_justify="left")
        table.add_column("calls delivered so often", justify="right")
        table.add_column("calls that ran so often", justify="right")
        for times in sorted(delivered | ran):
            table.add_row(f"{times}", f"{delivered[times]:,}", f"{ran[times]:,}")
        return table
