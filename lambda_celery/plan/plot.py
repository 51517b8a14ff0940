"""The two curves as a picture."""

from __future__ import annotations

from lambda_celery.exceptions import ConfigurationError
from lambda_celery.plan.report import Plan


def plot(plan: Plan, path: str) -> None:
    """Write messages left over time, of both ways, to the picture *path*.

    Raises:
        ConfigurationError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise ConfigurationError(
            "matplotlib draws the picture: run `pip install matplotlib`, or leave --plot out."
        ) from exc
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    workers = plan.workers
    curves = [
        ("Lambda", plan.drain.curve),
        (f"{workers.count} workers of {workers.processes}", plan.workers_drain.curve),
    ]
    for label, curve in curves:
        axes.plot(
            [point.seconds for point in curve],
            [point.messages_left for point in curve],
            label=label,
        )
    axes.set_xlabel("seconds")
    axes.set_ylabel("messages left")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"The picture cannot be written to {path}: {exc}") from exc
