"""What a run came to, beside what is promised."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from examples.kit.runs import DONE, Run, at_most_in_flight
from examples.kit.table import Row


@dataclass(frozen=True)
class Loop:
    """One way to run the main loop.

    *connections* is 0 for one turn after another; *batches* are those that were measured.
    """

    connections: int
    batches: int
    seconds: float

    @property
    def turns_a_second(self) -> float:
        return self.batches / self.seconds


@dataclass(frozen=True)
class Outcome:
    """All of it.

    Attributes:
        batches: how many the loop has.
        environments: how many calls the function runs at a time.
        loops: how long it took; the first is one after another.
        expected: what each batch counts.
        counts: what each was answered, in the end.
        lost: the batches whose process was killed, by what gather returned.
        killed: the batch that kills it.
        runs: of the gathered loop whose process was killed, those that were done.
    """

    batches: int
    environments: int
    loops: Sequence[Loop]
    expected: Sequence[int]
    counts: Sequence[int]
    lost: Sequence[int]
    killed: int
    runs: Sequence[Run]

    def rows(self) -> Iterator[Row]:
        """Yield the lines of the table."""
        serial = self.loops[0]
        yield Row(
            "turns a second, as it was",
            f"{serial.turns_a_second:.1f}",
            f"measured on {serial.batches}",
        )
        for loop in self.loops[1:]:
            times = loop.turns_a_second / serial.turns_a_second
            yield Row(
                f"gathered, {loop.connections} connections",
                f"{loop.turns_a_second:.1f}",
                f"{times:.1f} times as fast",
            )
        done = Counter(run.number for run in self.runs if run.how == DONE)
        yield Row("turns of the troubled loop", f"{len(done):,}", f"{self.batches:,}",
                  len(done) == self.batches)  # fmt: skip
        repeated = sum(each > 1 for each in done.values())
        yield Row("  run twice", f"{repeated:,}", "0", repeated == 0)
        lost = ", ".join(f"no. {batch}" for batch in self.lost) or "none"
        yield Row("  told as lost", lost, f"no. {self.killed}, which was killed",
                  list(self.lost) == [self.killed])  # fmt: skip
        wrong = sum(a != b for a, b in zip(self.counts, self.expected, strict=True))
        yield Row("results that differ", f"{wrong:,}", "0", wrong == 0)
        most = at_most_in_flight(self.runs)
        yield Row("turns at a time, at most", f"{most:,}", f"≤ {self.environments}",
                  most <= self.environments)  # fmt: skip
