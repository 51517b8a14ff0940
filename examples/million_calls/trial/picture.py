"""The picture: calls a second by the number in flight, and the calls of the whole over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """A line of the time table."""

    processes: int
    in_flight: int
    calls: int
    seconds: float
    peak_mib: int

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


class Course(NamedTuple):
    """The calls of a run over time, when its invocations ended, and when one was killed."""

    samples: Sequence[tuple[float, int]]
    ends: Sequence[float]


def draw(table: Sequence[Line], course: Course, latency_seconds: float, path: Path) -> None:
    # Here, since matplotlib takes a second to load that the run would have to wait for.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    bounds = sorted({line.in_flight for line in table})
    fastest = max(line.rate for line in table)
    ideal = [bound / latency_seconds for bound in bounds]
    left.plot(bounds, ideal, ":", color="black", linewidth=0.8, label="a call takes nothing else")
    for processes in dict.fromkeys(line.processes for line in table):
        own = [line for line in table if line.processes == processes]
        label = f"{processes} child processes" if processes else "in the function's process"
        left.plot([each.in_flight for each in own], [each.rate for each in own], "o-", label=label)
    left.set(
        xscale="log", xticks=bounds, xlabel="calls in flight", ylabel="calls a second",
        ylim=(0, fastest * 1.25),
    )  # fmt: skip
    left.set_xticks(bounds, [str(bound) for bound in bounds])
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8)

    start = course.samples[0][0]
    seconds = [at - start for at, _calls in course.samples]
    calls = [calls for _at, calls in course.samples]
    right.fill_between(seconds, calls, color="#9ecae1")
    for number, end in enumerate(course.ends):
        label = None if number else "an invocation ends"
        right.axvline(end - start, color="black", linewidth=0.8, linestyle=":", label=label)
    right.set(xlabel="seconds", ylabel="calls so far", xlim=(0, seconds[-1]), ylim=0)
    right.yaxis.set_major_formatter("{x:,.0f}")
    right.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
