"""The queues as they are now, and their trend by what was seen of them before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from lambda_celery.check.deployed.deployment import Deployed, Queue, queue_name, queue_names
from lambda_celery.check.deployed.reading import Thing
from lambda_celery.conf import Settings, setting_names
from lambda_celery.status.figures import (
    TREND_SECONDS,
    MappingStatus,
    QueueStatus,
    Sample,
    seconds_to_drain,
    trend_per_second,
)


@dataclass
class Queues:
    """Keeps what was seen of the queues of *settings*, for some minutes."""

    settings: Settings
    _samples: dict[str, deque[Sample]] = field(default_factory=dict, init=False)

    def status(
        self,
        deployed: Deployed,
        url: str,
        queue: Queue | None,
        now: float,
        *,
        samples: Sequence[tuple[float, float]] = (),
        oldest_seconds: float | None = None,
        waiting_by_minute: tuple[float, ...] = (),
        mappings: tuple[MappingStatus, ...] = (),
    ) -> QueueStatus:
        """Return the figures of *queue*, which is at *url*; ``None``: it could not be read.

        :param now: in seconds since 1970.
        :param samples: how many waited before, by others' account.
        :param oldest_seconds: the age of the oldest message, if there is one.
        """
        name = next(iter(queue_names(self.settings, url)))
        if queue is None:
            return QueueStatus(name, queue_name(url))
        waiting = int(queue.attributes["ApproximateNumberOfMessages"])
        in_flight = int(queue.attributes["ApproximateNumberOfMessagesNotVisible"])
        own = self._samples.setdefault(url, deque())
        own.append(Sample(now, waiting))
        while own[0].time < now - TREND_SECONDS:
            own.popleft()
        trend = trend_per_second([*(Sample(*each) for each in samples), *own])
        parked = deployed.dead_letter_queue(queue)
        return QueueStatus(
            name,
            queue.name,
            waiting=waiting,
            in_flight=in_flight,
            delayed=int(queue.attributes["ApproximateNumberOfMessagesDelayed"]),
            parked=int(parked.attributes["ApproximateNumberOfMessages"]) if parked else None,
            oldest_seconds=oldest_seconds if waiting or in_flight else None,
            trend_per_minute=trend * 60 if trend is not None else None,
            drain_seconds=seconds_to_drain(waiting, trend),
            waiting_by_minute=waiting_by_minute,
            mappings=mappings,
        )


def look(deployed: Deployed, url: str, thing: Thing, left_out: list[str]) -> Queue | None:
    """Return the queue at *url*, if it can be read; add to *left_out* why it is not there."""
    attributes = deployed.look_at_queue(url, thing)
    if attributes:
        return Queue(thing, url, attributes)
    if attributes is not None:
        left_out.append(
            f"There is no {thing.subject} in this account and region. "
            f"Check {setting_names(thing.setting or 'queue_url')}."
        )
    return None


def unseen(deployed: Deployed) -> list[str]:
    """Return what could not be looked at since the last time, in sentences."""
    return [each.sentence for each in deployed.reader.take_unseen()]
