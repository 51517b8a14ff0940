"""Each rule finds what it is for, on its line, and finds nothing in the twin."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lambda_celery.check import imports
from lambda_celery.check.doctor import check
from lambda_celery.check.facts import Facts
from lambda_celery.check.model import Finding, Grade
from lambda_celery.check.rules import cold_start, registry
from tests.unit.check.cases import CASES, Case
from tests.unit.check.project import facts_of, marked_lines

DOCS = Path(__file__).parents[3] / "docs"
#: Those with tests of their own below: they need more than a module.
APART = {
    "task-too-large", "local-storage", "django-files", "celery-batches", "database-connections",
    "import-cost", "connection-life", "server-side-cursors", "not-installed",
    "direct-calls",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found(folder: Path, code: str, rule: str, pyproject: str = "") -> tuple[Finding, ...]:
    with facts_of(folder, code, pyproject) as facts:
        return check(facts, [rule]).findings


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.bad[:40]!r}")
def test_it_finds_the_bad_one_on_its_line(case: Case, tmp_path):
    findings = found(tmp_path, case.bad, case.rule, case.pyproject)

    assert findings
    assert max(each.grade for each in findings) is case.grade
    places = {(each.place.path, each.place.line) for each in findings if each.place}
    assert marked_lines(tmp_path) <= places
    assert len(places - marked_lines(tmp_path)) <= (not marked_lines(tmp_path))
    for each in findings:
        assert each.rule == case.rule
        assert each.sentence.endswith((".", ")."))
        assert each.remedy.endswith(".")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.bad[:40]!r}")
def test_it_finds_nothing_in_the_good_twin(case: Case, tmp_path):
    assert found(tmp_path, case.good, case.rule, case.good_pyproject) == ()


def test_each_rule_has_a_test_and_a_paragraph():
    page = (DOCS / "check.md").read_text()
    # Of those of --deployed, tests/functional/test_check_deployed.py sees to it.
    ids = {each.id for each in registry if not each.id.startswith("deployed-")}

    assert ids == {case.rule for case in CASES} | APART
    for each in registry:
        assert f"\n### {each.id}\n\n{each.title}. {each.paragraph}\n" in page
        assert len(each.paragraph.split()) > 15
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", each.id)


def test_the_page_is_what_the_rules_say():
    page = (DOCS / "check.md").read_text()
    written = runpy.run_path(str(DOCS / "reference.py"))["written_rules"]

    assert written(page) == page, "Run `make reference`, and commit the page."


def test_a_task_that_reaches_too_much_is_amber(tmp_path, monkeypatch):
    monkeypatch.setattr("lambda_celery.check.following.MAXIMUM_BODIES", 2)
    code = "def a(): b()\ndef b(): pass\n@app.task\ndef f(): a()"

    (finding,) = found(tmp_path, code, "task-too-large")

    assert finding.grade is Grade.AMBER
    monkeypatch.setattr("lambda_celery.check.following.MAXIMUM_BODIES", 4)
    assert found(tmp_path, code, "task-too-large") == ()


STORING = """
from django.core.files.storage import default_storage
@app.task
def f(x): default_storage.save("a", x)  # here
"""
STORING_BY_A_FIELD = """
@app.task
def f(cls, name):
    storage = cls.file.field.storage
    storage.delete(name)
"""


def test_local_storage(tmp_path, monkeypatch):
    from django.core.files import storage

    local = storage.FileSystemStorage(location="media")
    monkeypatch.setattr("django.conf.settings", SimpleNamespace(configured=True))
    monkeypatch.setattr(storage, "default_storage", local)
    (finding,) = found(tmp_path, STORING, "local-storage")

    assert finding.grade is Grade.RED
    assert (finding.place.path, finding.place.line) in marked_lines(tmp_path)
    (finding,) = found(tmp_path, STORING_BY_A_FIELD, "local-storage")

    assert finding.grade is Grade.AMBER
    monkeypatch.setattr(storage, "default_storage", storage.Storage())
    monkeypatch.setattr(storage, "storages", {"default": storage.Storage()})
    assert found(tmp_path, STORING, "local-storage") == ()


def test_django_files(tmp_path, monkeypatch):
    import django.conf  # noqa: F401 - the rule looks for it

    bad = SimpleNamespace(
        configured=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3"}},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}},
        EMAIL_BACKEND="django.core.mail.backends.filebased.EmailBackend",
        LOGGING={"handlers": {"file": {"filename": "/var/log/app.log"}}},
    )
    monkeypatch.setattr("django.conf.settings", bad)
    findings = found(tmp_path, "", "django-files")

    assert {each.subject for each in findings} == {
        "DATABASES['default']", "CACHES['default']", "EMAIL_BACKEND", "LOGGING",
    }  # fmt: skip
    assert {each.subject for each in findings if each.grade is Grade.RED} == {"LOGGING"}
    good = SimpleNamespace(
        configured=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"}},
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        LOGGING={"handlers": {"file": {"class": "logging.StreamHandler"}}},
    )
    monkeypatch.setattr("django.conf.settings", good)
    assert found(tmp_path, "", "django-files") == ()


def test_mail_that_goes_to_the_queue_may_be_sent_again(tmp_path, monkeypatch):
    import django.conf  # noqa: F401 - the rule looks for it

    code = """
    import smtplib
    from django.core.mail import mail_admins
    @app.task
    def f(message):
        message.send()
        mail_admins("a", "b")
    @app.task
    def by_hand(): smtplib.SMTP().sendmail("a", "b", "c")
    """
    path = "lambda_celery.django.mail.EmailBackend"
    published = SimpleNamespace(configured=True, EMAIL_BACKEND=path)
    monkeypatch.setattr("django.conf.settings", published)
    [finding] = found(tmp_path, code, "early-ack")
    assert finding.subject.endswith("by_hand")
    mailers = {"default": {"BACKEND": path, "OPTIONS": {"using": "smtp"}}}
    monkeypatch.setattr("django.conf.settings", SimpleNamespace(configured=True, MAILERS=mailers))
    assert len(found(tmp_path, code, "early-ack")) == 1

    monkeypatch.setattr("django.conf.settings", published)
    for other in ("django.core.mail.backends.smtp.EmailBackend", "nowhere.EmailBackend"):
        monkeypatch.setattr(published, "EMAIL_BACKEND", other)
        assert len(found(tmp_path, code, "early-ack")) == 2


def test_djangos_own_settings_are_no_typos(tmp_path):
    import django.conf.global_settings  # noqa: F401 - the rule looks for it

    assert found(tmp_path, "app.conf.TIME_ZONE = 'UTC'", "unknown-setting") == ()


def test_settings_without_a_value_are_passed_over(tmp_path):
    # As Django's are after settings.configure(): they name what they then do not have.
    code = (
        "class Own:\n    task_time_limt = 60\n    def __dir__(self):\n"
        "        return ['task_time_limt', '__builtins__', 'gone']\n"
        "app.config_from_object(Own())"
    )
    (finding,) = found(tmp_path, code, "unknown-setting")

    assert finding.subject == "task_time_limt"


def test_database_connections(tmp_path, monkeypatch):
    import django.conf  # noqa: F401 - the rule looks for it

    database = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    settings = SimpleNamespace(configured=True, DATABASES=database)
    monkeypatch.setattr("django.conf.settings", settings)
    stanza = "[tool.lambda-celery]\nmaximum_concurrency = {}\n"
    (finding,) = found(tmp_path, "", "database-connections", stanza.format(500))

    assert "500 connections" in finding.sentence
    assert found(tmp_path, "", "database-connections", stanza.format(50)) == ()


@pytest.mark.parametrize(
    ("pool", "connections"),
    [(True, 120), ({"max_size": 6}, 180), ({"min_size": 5}, 150), ({"max_size": 2}, None)],
)
def test_tasks_share_a_pool(tmp_path, monkeypatch, pool, connections):
    import django.conf  # noqa: F401 - the rule looks for it

    database = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}}
    settings = SimpleNamespace(configured=True, DATABASES={"default": database})
    monkeypatch.setattr("django.conf.settings", settings)
    stanza = "[tool.lambda-celery]\nmaximum_concurrency = 30\n"

    findings = found(tmp_path, "", "database-connections", stanza)

    said = [f"{connections} connections" in each.sentence for each in findings]
    assert said == ([] if connections is None else [True])
    assert not any("off" in each.remedy for each in findings)


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("connection-life", {"OPTIONS": {"pool": True}}, {"CONN_HEALTH_CHECKS": True}),
        (
            "connection-life",
            {"OPTIONS": {"pool": True}, "CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": 60},
            {"CONN_MAX_AGE": 0},
        ),
        ("server-side-cursors", {"PORT": 6432}, {"DISABLE_SERVER_SIDE_CURSORS": True}),
        (
            "server-side-cursors",
            {"HOST": "mail.proxy-abc.eu-west-1.rds.amazonaws.com"},
            {"HOST": "mail.abc.eu-west-1.rds.amazonaws.com"},
        ),
    ],
)
def test_databases(tmp_path, monkeypatch, rule, bad, good):
    import django.conf  # noqa: F401 - the rule looks for it

    database = {"ENGINE": "django.db.backends.postgresql", **bad}
    settings = SimpleNamespace(configured=True, DATABASES={"default": database})
    monkeypatch.setattr("django.conf.settings", settings)
    (finding,) = found(tmp_path, "", rule)

    assert finding.subject == "DATABASES['default']"
    database.update(good)
    assert found(tmp_path, "", rule) == ()


def test_direct_calls_need_aiohttp(tmp_path, monkeypatch):
    named = "app.conf.lambda_function = 'mail:live'"
    assert found(tmp_path, named, "direct-calls") == ()

    monkeypatch.setitem(sys.modules, "aiohttp", None)  # as if it were not installed
    (finding,) = found(tmp_path, named, "direct-calls")

    assert finding.grade is Grade.AMBER
    assert "mail:live" in finding.sentence
    assert found(tmp_path, "", "direct-calls") == ()


def test_celery_batches(tmp_path):
    (tmp_path / "celery_batches.py").write_text(
        "from celery import Task\nclass Batches(Task):\n    abstract = True\n"
    )
    code = "from celery_batches import Batches\n@app.task(base=Batches)\ndef f(x): pass  # here"
    (finding,) = found(tmp_path, code, "celery-batches")

    assert finding.grade is Grade.RED
    assert (finding.place.path, finding.place.line) in marked_lines(tmp_path)
    assert found(tmp_path, "@app.task\ndef f(x): pass", "celery-batches") == ()


def test_import_cost(tmp_path, monkeypatch):
    text = "\n".join(
        f"import time: {own:>9} | {own:>10} | {name}"
        for name, own in [("heavy.part", 2_500_000), ("heavy", 1_000_000), ("light", 2000)]
    )
    cost = imports.parse(text)
    assert cost.seconds == pytest.approx(3.502)
    assert cost.packages[0] == ("heavy", 3.5)

    def find(measured: imports.ImportCost | None) -> list[Finding]:
        monkeypatch.setattr(cold_start, "measure", lambda name, root: measured)
        with facts_of(tmp_path, "") as facts:
            named = Facts(facts.app, facts.settings, tmp_path, "proj")
            return list(cold_start.import_cost(named))

    (finding,) = find(cost)
    assert "heavy 3.5 s" in finding.sentence
    (unknown,) = find(None)
    assert unknown.grade is Grade.AMBER
    assert find(imports.ImportCost(0.5, (("light", 0.5),))) == []


def test_the_imports_are_measured_in_a_process_of_their_own(tmp_path):
    (tmp_path / "slow.py").write_text("from celery import Celery\napp = Celery('slow')\n")

    measured = imports.measure("slow:app", tmp_path)

    assert measured is not None
    assert "celery" in dict(measured.packages)
    assert imports.measure("missing:app", tmp_path) is None
