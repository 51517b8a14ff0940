"""How many messages are on a queue, by SQS's own count, over time."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL_SECONDS = 0.25


@dataclass(frozen=True)
class Depth:
    """The messages on a queue at one moment."""

    at_seconds: float
    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


def measure(sqs: Any, queue_url: str) -> Depth:
    counts = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )["Attributes"]
    return Depth(
        time.monotonic(),
        int(counts["ApproximateNumberOfMessages"]),
        int(counts["ApproximateNumberOfMessagesNotVisible"]),
        int(counts["ApproximateNumberOfMessagesDelayed"]),
    )


class DepthRecorder:
    """Measures a queue's depth a few times a second. A context manager."""

    def __init__(self, sqs: Any, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._samples: list[Depth] = []
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "DepthRecorder":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def samples(self) -> tuple[Depth, ...]:
        """What has been measured so far; measuring goes on."""
        return tuple(self._samples)

    def wait_until_empty(self, timeout_seconds: float) -> bool:
        """Wait until a sample taken from now on finds no message; return whether one did."""
        start = time.monotonic()
        with self._news:
            return self._news.wait_for(
                lambda: (
                    bool(self._samples)
                    and self._samples[-1].at_seconds > start
                    and self._samples[-1].total == 0
                ),
                timeout_seconds,
            )

    def _run(self) -> None:
        while True:
            with self._news:
                self._samples.append(measure(self._sqs, self._queue_url))
                self._news.notify_all()
            if self._stop.wait(INTERVAL_SECONDS):
                return


def draw(samples: Sequence[Depth], marks: dict[str, float], path: Path) -> None:
    """Save a picture of *samples*, with a line at each moment in *marks*."""
    # Here, since matplotlib takes a second to load that the run would have to wait for.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    start = samples[0].at_seconds
    seconds = [sample.at_seconds - start for sample in samples]
    # Two scales: ten thousand wait, a few dozen are in flight.
    figure, (upper, lower) = pyplot.subplots(
        2, sharex=True, height_ratios=[3, 1], figsize=(9, 5), layout="constrained"
    )
    upper.fill_between(seconds, [sample.visible for sample in samples], color="#9ecae1")
    lower.stackplot(
        seconds,
        [sample.in_flight for sample in samples],
        [sample.delayed for sample in samples],
        labels=["in flight", "delayed (retries)"],
        colors=["#fdae6b", "#756bb1"],
    )
    lower.legend(loc="upper right", frameon=False, fontsize=8)
    for label, at_seconds in marks.items():
        for axes in (upper, lower):
            axes.axvline(at_seconds - start, color="black", linewidth=0.8, linestyle=":")
        upper.annotate(
            f" {label}",
            (at_seconds - start, 1),
            xycoords=("data", "axes fraction"),
            verticalalignment="bottom",
            rotation=15,
            fontsize=8,
        )
    upper.set(ylabel="messages waiting", ylim=0)
    lower.set(xlabel="seconds", ylabel="not visible", xlim=(0, seconds[-1]), ylim=0)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
