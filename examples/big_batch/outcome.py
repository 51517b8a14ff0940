"""What a run came to, and what it should have come to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from examples.big_batch.events import Event
from examples.big_batch.service import fate
from examples.kit.runs import DONE, at_most_in_flight
from examples.kit.table import Row
from lambda_celery.local.function import MAXIMUM_EVENT_BYTES

#: Tasks at the same time.
CONCURRENCY = 100
#: A message that fails always is parked soon.
MAX_RECEIVE_COUNT = 3


@dataclass(frozen=True)
class Comparison:
    """So many tasks, so many at a time."""

    kind: str
    concurrency: int
    tasks: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What the demo came to: its events in their order, and what was left behind."""

    records: int
    events: Sequence[Event]
    parked: int
    left_on_queue: int
    comparisons: Sequence[Comparison]

    def rows(self) -> list[Row]:
        """Return the table's lines."""
        first = self.events[0]
        fates = Counter(map(fate, range(self.records)))
        fails_always = fates["fails always"]
        ended = Counter(
            run.number for event in self.events for run in event.runs if run.how == DONE
        )
        returns = fates["fails once"] + fails_always * (MAX_RECEIVE_COUNT - 1)
        failed = sum(len(event.should_fail) for event in self.events)
        in_flight = max(at_most_in_flight(event.runs) for event in self.events)
        event_bytes = max(event.event_bytes for event in self.events)
        answer_bytes = max(event.answer_bytes for event in self.events)
        peak_bytes = max(event.peak_bytes for event in self.events)
        return [
            Row("records in the first event", f"{first.records:,}"),
            Row("  tasks that raised", f"{len(first.should_fail):,}"),
            Row(
                "  in batchItemFailures",
                f"{len(first.failed):,}",
                "exactly these",
                first.is_exact and bool(first.failed),
            ),
            Row("  seconds in the function", f"{first.seconds:.1f}"),
            Row("  tasks a second", f"{first.records / first.seconds:,.0f}"),
            Row("events, with what came again", f"{len(self.events)}"),
            Row(
                "  messages returned",
                f"{sum(len(event.failed) for event in self.events):,}",
                f"{returns:,}: raised, with an attempt left",
                failed == returns and all(event.is_exact for event in self.events),
            ),
            Row("parked", f"{self.parked}", f"{fails_always}", self.parked == fails_always),
            Row(
                "succeeded",
                f"{len(ended):,}",
                f"{self.records - fails_always:,}, all but those",
                len(ended) == self.records - fails_always,
            ),
            Row(
                "  more than once",
                f"{sum(times > 1 for times in ended.values())}",
                "0",
                set(ended.values()) == {1},
            ),
            Row("left on the queue", f"{self.left_on_queue}", "0", self.left_on_queue == 0),
            Row(
                "tasks in flight at most",
                f"{in_flight}",
                f"{CONCURRENCY} at most",
                in_flight <= CONCURRENCY,
            ),
            Row("peak memory", f"{peak_bytes / 2**20:.0f} MiB" if peak_bytes else "not known here"),
            Row(
                "largest event",
                f"{event_bytes:,} bytes",
                f"{MAXIMUM_EVENT_BYTES:,} at most",
                event_bytes <= MAXIMUM_EVENT_BYTES,
            ),
            Row("largest answer", f"{answer_bytes:,} bytes"),
            *(
                Row(
                    f"{each.tasks} tasks, {each.concurrency} at a time, {each.kind}",
                    f"{each.seconds:.2f} s, {each.tasks / each.seconds:,.0f} a second",
                )
                for each in self.comparisons
            ),
        ]
