"""The picture: each turn as a line, by the environment that ran it; and how fast each loop was."""

from collections.abc import Sequence
from pathlib import Path

from examples.fan_out.outcome import Loop
from examples.kit.runs import Run


def draw(runs: Sequence[Run], loops: Sequence[Loop], path: Path) -> None:
    """Save the picture."""
    # Here, since matplotlib takes a second to load.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    start = min(run.began for run in runs)
    environments = {run.process_id: n for n, run in enumerate(sorted(runs, key=_began))}
    places = {each: n for n, each in enumerate(environments)}
    left.hlines(
        [places[run.process_id] for run in runs],
        [run.began - start for run in runs],
        [run.ended - start for run in runs],
        color="#3182bd", linewidth=3,
    )  # fmt: skip
    left.set(title=f"{len(runs):,} turns, gathered", xlabel="seconds", ylabel="environment", xlim=0)
    left.yaxis.get_major_locator().set_params(integer=True)
    names = [str(each.connections) if each.connections else "one after\nanother" for each in loops]
    bars = right.bar(names, [each.turns_a_second for each in loops], color="#08519c")
    right.bar_label(bars, fmt="{:.1f}")
    right.margins(y=0.1)  # room for the labels
    right.set(title="The same loop", xlabel="connections", ylabel="turns a second")
    figure.savefig(path, dpi=100)


def _began(run: Run) -> float:
    return run.began
