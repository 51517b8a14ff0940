"""The check itself: all rules over the facts, without what is switched off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lambda_celery.check.facts import STANZA, Facts
from lambda_celery.check.model import CheckError, Finding, Place, Registry
from lambda_celery.check.places import SettingPlaces
from lambda_celery.check.report import Report
from lambda_celery.check.rules import registry


def check(facts: Facts, only: Iterable[str] = (), rules: Registry = registry) -> Report:
    """Return what *rules* find in *facts*.

    :param only: ids of rules; if there are any, the others are left out.
    :raises CheckError: an id is no rule's, in *only*, in the settings or in a comment.
    """
    chosen = [rules.get(each, "--rule") for each in only] or list(rules)
    ignored = _ignored_by_settings(facts, rules)
    setting_places = SettingPlaces(facts.project, facts.root, str(facts.app.conf.prefix or ""))
    found = dict.fromkeys(
        finding if finding.resource else setting_places.placed(finding)
        for rule in chosen
        if rule.id not in ignored
        for finding in rule.find(facts)
        if finding.rule not in ignored
    )
    comments = _comments(facts, rules)
    places = {task.name: task.place for task in facts.tasks}

    def is_kept(finding: Finding) -> bool:
        task = places.get(finding.subject or "")
        return not any(
            finding.rule in comments.get((each.path, each.line), ())
            for each in (finding.place, task)
            if each is not None
        )

    kept = tuple(each for each in found if is_kept(each))
    return Report(kept, places, ignored=len(found) - len(kept))


def _ignored_by_settings(facts: Facts, rules: Registry) -> frozenset[str]:
    named_by = f"[tool.{STANZA}] check in pyproject.toml"
    table = facts.stanza.get("check", {})
    is_known = isinstance(table, Mapping) and set(table) <= {"ignore"}
    ids = table.get("ignore", []) if is_known else None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise CheckError(f'{named_by} must be as {{ignore = ["rule-id"]}}.')
    return frozenset(rules.get(each, named_by).id for each in ids)


def _comments(facts: Facts, rules: Registry) -> Mapping[tuple[str, int], frozenset[str]]:
    found = {}
    for source in facts.sources.read():
        for line, ids in source.ignores.items():
            place: Place = source.place(line)
            for each in ids:
                rules.get(each, f"The comment at {place}")
            found[place.path, line] = ids
    return found
