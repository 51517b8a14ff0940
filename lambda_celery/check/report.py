"""How findings are told: as text to people, and as JSON, SARIF or annotations to machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from io import StringIO

from lambda_celery import __version__
from lambda_celery.check.model import CheckError, Finding, Grade, Place, Rule

_COLOURS = {Grade.GREEN: "green", Grade.AMBER: "yellow", Grade.RED: "red"}
#: Of what is no failure the level is "none": section 3.27.10 of the standard.
_SARIF_LEVELS = {Grade.GREEN: "none", Grade.AMBER: "warning", Grade.RED: "error"}
_GITHUB_COMMANDS = {Grade.GREEN: "notice", Grade.AMBER: "warning", Grade.RED: "error"}


@dataclass(frozen=True)
class Report:
    """What was found, and of what.

    :ivar tasks: each task that was looked at, and where it is; empty if none was to be.
    :ivar ignored: how many findings are switched off.
    """

    findings: tuple[Finding, ...]
    tasks: Mapping[str, Place | None]
    ignored: int = 0

    def grade_of(self, task: str) -> Grade:
        """Return the grade of *task*: that of its worst finding."""
        grades = (each.grade for each in self.findings if each.subject == task)
        return max(grades, default=Grade.GREEN)

    @property
    def worst(self) -> Grade:
        """The grade of the worst finding of all."""
        return max((each.grade for each in self.findings), default=Grade.GREEN)


def as_text(report: Report, *, is_coloured: bool, width: int) -> str:
    """Return *report* for people, in lines of *width* characters at most.

    Raises :exc:`CheckError` if rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.padding import Padding
        from rich.text import Text
    except ImportError:
        raise CheckError(
            "The report as text needs rich: pip install 'lambda-celery[deploy]', "
            "or ask for --format json."
        ) from None
    stream = StringIO()
    console = Console(
        file=stream,
        force_terminal=is_coloured,
        color_system="standard" if is_coloured else None,
        width=width,
        highlight=False,
        emoji=False,
    )

    def heading(grade: Grade, name: str, place: Place | None) -> None:
        line = Text(f"{grade.word:<6}", style=f"bold {_COLOURS[grade]}")
        line.append(name, style="bold not dim")
        if place is not None:
            line.append(f"  {place}", style="dim")
        console.print(line, soft_wrap=True)

    def paragraph(finding: Finding) -> None:
        line = Text(f"{finding.grade.word}: ", style=_COLOURS[finding.grade])
        line.append(finding.sentence, style="default")
        line.append(f" {finding.remedy}", style="default")
        console.print(Padding(line, (0, 0, 0, 6), expand=False))
        at = finding.place or finding.resource
        where = f"[{finding.rule}]" + (f" {at}" if at else "")
        console.print(Padding(Text(where, style="dim"), (0, 0, 0, 6), expand=False), soft_wrap=True)

    of_tasks: dict[str, list[Finding]] = {name: [] for name in report.tasks}
    of_others: dict[str, list[Finding]] = {}
    for each in report.findings:
        if each.subject in of_tasks:
            of_tasks[each.subject].append(each)
        else:
            of_others.setdefault(each.subject or "project", []).append(each)
    for group, places in ((of_others, {}), (of_tasks, report.tasks)):
        by_grade = sorted(
            group.items(), key=lambda item: -max((f.grade for f in item[1]), default=0)
        )
        for name, findings in by_grade:
            grade = max((each.grade for each in findings), default=Grade.GREEN)
            heading(grade, name, places.get(name))
            for each in sorted(findings, key=lambda finding: -finding.grade):
                paragraph(each)
    console.print(Text(_summary(report), style="bold"), soft_wrap=True)
    return stream.getvalue()


def _summary(report: Report) -> str:
    def counted(grades: Iterable[Grade]) -> str:
        counts = Counter(grades)
        return ", ".join(f"{counts[grade]} {grade.word}" for grade in reversed(Grade))

    parts = []
    if report.tasks:
        parts.append(f"Tasks: {counted(map(report.grade_of, report.tasks))}.")
    others = [each.grade for each in report.findings if each.subject not in report.tasks]
    if others:
        parts.append(f"Other findings: {counted(others)}.")
    if report.ignored:
        parts.append(f"Switched off: {report.ignored}.")
    return " ".join(parts) or "Nothing was found."


def _place(place: Place | None) -> dict[str, object] | None:
    return asdict(place) if place is not None else None


def as_json(report: Report) -> str:
    """Return *report* as a JSON object with ``tasks``, ``findings``, ``ignored`` and ``worst``."""
    return json.dumps(
        {
            "version": __version__,
            "worst": report.worst.word,
            "ignored": report.ignored,
            "tasks": [
                {"name": name, "grade": report.grade_of(name).word, "place": _place(place)}
                for name, place in report.tasks.items()
            ],
            "findings": [
                {
                    "rule": each.rule,
                    "grade": each.grade.word,
                    "subject": each.subject,
                    "sentence": each.sentence,
                    "remedy": each.remedy,
                    "place": _place(each.place),
                    "resource": each.resource,
                }
                for each in report.findings
            ],
        },
        indent=2,
    )


def as_sarif(report: Report, rules: Iterable[Rule]) -> str:
    """Return *report* as SARIF 2.1.0, with those of *rules* that have found something."""
    found = {each.rule for each in report.findings}
    descriptors = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.paragraph or rule.title},
            "help": {"text": rule.paragraph or rule.title, "markdown": rule.paragraph},
        }
        for rule in rules
        if rule.id in found
    ]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "lambda-celery",
                        "semanticVersion": __version__,
                        "rules": descriptors,
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_sarif_result(each) for each in report.findings],
            }
        ],
    }
    return json.dumps(log, indent=2)


def _sarif_result(finding: Finding) -> dict[str, object]:
    subject = f"{finding.subject}: " if finding.subject else ""
    result: dict[str, object] = {
        "ruleId": finding.rule,
        "level": _SARIF_LEVELS[finding.grade],
        "kind": "informational" if finding.grade is Grade.GREEN else "fail",
        "message": {"text": f"{subject}{finding.sentence} {finding.remedy}"},
    }
    if finding.place is not None:
        physical = {
            "artifactLocation": {"uri": finding.place.path},
            "region": {"startLine": finding.place.line},
        }
        result["locations"] = [{"physicalLocation": physical}]
    elif finding.resource is not None:
        logical = {"fullyQualifiedName": finding.resource, "kind": "resource"}
        result["locations"] = [{"logicalLocations": [logical]}]
    return result


def as_github(report: Report) -> str:
    """Return *report* as workflow commands, which GitHub shows as annotations."""
    lines = []
    for each in report.findings:
        properties = {"title": f"{each.rule} ({each.subject})" if each.subject else each.rule}
        if each.place is not None:
            properties = {
                "file": each.place.path, "line": str(each.place.line), **properties,
            }  # fmt: skip
        written = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
        at = f" ({each.resource})" if each.resource else ""
        text = _escaped(f"{each.sentence} {each.remedy}{at}")
        lines.append(f"::{_GITHUB_COMMANDS[each.grade]} {written}::{text}")
    return "\n".join(lines)


def _escaped(text: str, more: str = "") -> str:
    # As @actions/core does: % first, or it would escape the others' again.
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


FORMATS: Mapping[str, Callable[[Report, Iterable[Rule]], str]] = {
    "json": lambda report, _rules: as_json(report),
    "sarif": as_sarif,
    "github": lambda report, _rules: as_github(report),
}
