"""The picture: rows done over time, and environments at work."""

from collections.abc import Sequence
from pathlib import Path

from examples.kit.runs import DONE, Run
from examples.split_and_work.watched import Invocation


def draw(
    runs: Sequence[Run],
    splitting: Sequence[Invocation],
    working: Sequence[Invocation],
    path: Path,
) -> None:
    """Save the picture, with a line where a process was killed."""
    # Here, since matplotlib takes a second to load.
    from matplotlib.figure import Figure

    start = min(each.began for each in splitting)
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
    ended = [run.ended - start for run in runs if run.how == DONE]
    upper.plot([0, *ended], range(len(ended) + 1), color="#08519c")
    upper.set(ylabel="rows done", ylim=0)
    for name, invocations, color in (
        ("working", working, "#9ecae1"),
        ("splitting", splitting, "#fdae6b"),
    ):
        seconds, counts = zip(*_at_work(invocations, start), strict=True)
        lower.fill_between(seconds, counts, step="post", color=color, alpha=0.8, label=name)
        for each in invocations:
            if each.error:
                for axes in (upper, lower):
                    axes.axvline(each.ended - start, color="black", linewidth=0.8, linestyle=":")
                upper.annotate(
                    f" {name} process killed",
                    (each.ended - start, 1),
                    xycoords=("data", "axes fraction"),
                    verticalalignment="bottom",
                    rotation=15,
                    fontsize=8,
                )
    lower.legend(frameon=False, loc="upper right", ncols=2, fontsize=8)
    lower.set(xlabel="seconds", ylabel="environments at work", xlim=0, ylim=0)
    lower.set_ylim(top=1.3 * lower.get_ylim()[1])  # room for the legend
    figure.savefig(path, dpi=110)


def _at_work(invocations: Sequence[Invocation], start: float) -> list[tuple[float, int]]:
    """Return how many invocations are under way, from each second at which that changes."""
    begun = [(each.began - start, 1) for each in invocations]
    counted, steps = 0, [(0.0, 0)]
    # Of two at the same moment, the end first.
    for second, change in sorted(begun + [(each.ended - start, -1) for each in invocations]):
        counted += change
        steps.append((second, counted))
    return steps
