"""What the pages name exists, and what exists globally is named on the architecture page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "examples/*.md",
        "examples/*/README.md",
        "benchmarks/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
MODULES = [
    path
    for package in ("lambda_celery", "lambda_runtime")
    for path in sorted((ROOT / package).rglob("*.py"))
]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
#: What makes something that outlives a call, or changes what is another's.
GLOBAL = re.compile(
    r"ContextVar\(|WeakKeyDictionary\(|lru_cache|^@cache|threading\.(?:Thread|local)\(|"
    r"ThreadPoolExecutor\(|\.connect\(|__class__ =|signal\.(?:signal|setitimer)\(|"
    r"_state\.connect|boto3\.Session,|control_cls =|root\.handlers =|setattr\(",
    re.MULTILINE,
)
#: What looks like it, and is an object's own.
NO_GLOBAL: set[str] = {
    "lambda_celery/check/rules/processes.py",  # words in what it looks for
    "lambda_celery/check/rules/state.py",
    "lambda_celery/django/mail/form.py",  # a mail's attributes
}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(LINK, "", each)).strip() for each in headings)
    return {each.lower().replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = [each for each in LINK.findall(FENCE.sub("", page.read_text())) if "://" not in each]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} on {page.name} leads nowhere."
        if anchor and target.suffix != ".png":  # of a picture, the theme it is for
            assert anchor in anchors(target), f"{link} on {page.name}: there is no such heading."


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 900


def test_every_module_in_the_picture_exists():
    drawn = re.findall(
        r'label = "(lambda_\w+\.)\\n([\w.]+)"', (ROOT / "docs/images/architecture.dot").read_text()
    )
    assert len(drawn) > 8
    for package, module in drawn:
        path = ROOT / (package + module).replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), f"{package}{module}"


def test_the_picture_is_drawn_anew():
    picture = (ROOT / "docs/images/architecture.svg").read_text()
    text = (ROOT / "docs/images/architecture.dot").read_text()
    for label in re.findall(r'label = "([^"]+)"', text):
        for line in label.split(r"\n"):
            escaped = re.sub("[-']", lambda each: f"&#{ord(each[0])};", line)
            assert escaped in picture, "Run `make picture`."


def test_the_architecture_page_names_what_is_global():
    """And what is patched: each module that does any of it stands on the page."""
    section = ARCHITECTURE.partition("## What is global")[2].partition("## How the walls")[0]
    found = [path for path in MODULES if GLOBAL.search(path.read_text())]
    names = {str(path.relative_to(ROOT)) for path in found} - NO_GLOBAL
    assert len(names) > 15
    for name in names:
        assert name.removeprefix("lambda_celery/") in section, f"{name} is not on the page."


def test_the_architecture_page_names_every_room():
    section = ARCHITECTURE.partition("## Where things are")[2].partition("## What is global")[0]
    rooms = {
        path.relative_to(ROOT)
        for path in MODULES
        if len(path.relative_to(ROOT).parts) == 2 and path.stem != "__init__"
    }
    folders = {path.relative_to(ROOT).parent for path in MODULES}
    for each in sorted(rooms):
        assert f"`{each.name}`" in section or str(each) in section, f"{each} is not on the page."
    for each in sorted(folder for folder in folders if len(folder.parts) == 2):
        assert f"`{each.name}/`" in section, f"{each} is not on the page."
