"""What README, CONTRIBUTING and the docs name or link exists: paths, modules, names and pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_FOLDERS = "promcompat|native_api|promql|sql|conformance|tests"
_PATH = re.compile(rf"(?<![\w/.~-])(?:{_FOLDERS})/[\w./*-]*\w")
_MODULE = re.compile(r"`((?:promcompat|native_api|promql|sql)(?:\.\w+)+)(?:\(\))?`")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_CLASS = re.compile(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_DATABASE_NAMES = {"promcompat.epoch", "promcompat.metrics", "promcompat.sample"}


def _is_defined(name: str) -> bool:
    """Whether a dotted name is a module, or a module and a name that is defined in it."""
    module, attribute = name, ""
    while not _is_module(module):
        module, _, last = module.rpartition(".")
        if not module or attribute:
            return False
        attribute = last
    if not attribute:
        return True
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    definition = rf"^ *(?:(?:async )?def|class) {attribute}\b|^ *{attribute}\b.*="
    return re.search(definition, source, re.MULTILINE) is not None


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_places_named_in_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = {path for path in _PATH.findall(text) if not list(ROOT.glob(path))}
    modules = set(_MODULE.findall(text)) - _DATABASE_NAMES
    assert paths | {name for name in modules if not _is_defined(name)} == set()


def test_classes_named_where_the_code_is_explained_exist() -> None:
    sources = [
        path.read_text()
        for package in _FOLDERS.split("|")
        for path in ROOT.glob(f"{package}/**/*.py")
    ]
    known = set(re.findall(r"^class (\w+)", "\n".join(sources), re.MULTILINE))
    for page in (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"):
        assert set(_CLASS.findall(page.read_text(encoding="utf-8"))) <= known, page.name


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tests_named_in_pages_exist(page: Path) -> None:
    for path, name in _TEST.findall(page.read_text(encoding="utf-8")):
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *(async )?def {name}\(", source, re.MULTILINE), f"{path}::{name}"


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_pages_have_targets(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in _anchors_of(target), f"{path}#{anchor}"


def _anchors_of(page: Path) -> set[str]:
    """The names by which links reach the headings of a page, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {name.strip().replace(" ", "-") for name in words}


@pytest.mark.parametrize("index", [ROOT / "README.md", ROOT / "docs" / "adr" / "README.md"])
def test_an_index_links_every_page(index: Path) -> None:
    """The README links all pages but the decisions, which have an index of their own."""
    linked = {(index.parent / path).resolve() for path, _ in _LINK.findall(index.read_text())}
    decisions = set(ROOT.glob("docs/adr/[0-9]*.md"))
    pages = decisions if index.parent.name == "adr" else set(_PAGES) - decisions
    assert pages - {index} <= linked
