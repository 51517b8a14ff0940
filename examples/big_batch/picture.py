"""The picture: tasks in flight over the first event, and what so many at a time bring."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from examples.big_batch.events import Event
from examples.big_batch.outcome import Comparison
from examples.kit.runs import in_flight


def draw(event: Event, comparisons: Sequence[Comparison], path: Path) -> None:
    """Save the picture."""
    # Here, since matplotlib takes a second to load.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    seconds, means, most = _by_interval(in_flight(event.runs))
    left.fill_between(seconds, means, color="#9ecae1", label="mean")
    left.plot(seconds, most, color="#08519c", label="at most")
    left.legend(loc="lower right")
    left.set(
        title=f"One event of {event.records:,} records",
        xlabel="seconds",
        ylabel="tasks in flight",
        xlim=0,
        ylim=0,
    )
    concurrencies = list(dict.fromkeys(each.concurrency for each in comparisons))
    for place, kind in enumerate(dict.fromkeys(each.kind for each in comparisons)):
        rates = [each.tasks / each.seconds for each in comparisons if each.kind == kind]
        bars = right.bar([n + 0.4 * place for n in range(len(rates))], rates, 0.4, label=kind)
        right.bar_label(bars, fmt="{:.0f}")
    right.margins(y=0.1)  # room for the labels
    right.set_xticks([n + 0.2 for n in range(len(concurrencies))], map(str, concurrencies))
    right.set(title=f"{comparisons[0].tasks} tasks", xlabel="at a time", ylabel="tasks a second")
    right.legend(frameon=False)
    figure.savefig(path, dpi=100)


def _by_interval(
    steps: Sequence[tuple[float, int]], intervals: int = 60
) -> tuple[list[float], list[float], list[int]]:
    """Return the middles of equal intervals, and the mean and the most of the *steps* in each."""
    start, end = steps[0][0], steps[-1][0]
    length = (end - start) / intervals or 1
    areas, most = [0.0] * intervals, [0] * intervals
    for (moment, counted), (until, _) in pairwise(steps):
        first = min(int((moment - start) / length), intervals - 1)
        for each in range(first, min(int((until - start) / length), intervals - 1) + 1):
            begin = start + each * length
            areas[each] += counted * (min(until, begin + length) - max(moment, begin))
            most[each] = max(most[each], counted)
    middles = [(each + 0.5) * length for each in range(intervals)]
    return middles, [area / length for area in areas], most
