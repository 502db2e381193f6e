"""What can be said of the contract without a service."""

import html.parser
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from native_api.contract.docs_page import render_docs
from native_api.contract.etags import is_not_modified, precondition_of
from native_api.contract.merge_patch import merge_patch
from native_api.contract.openapi import build_openapi
from native_api.contract.pages import decode_cursor, encode_cursor
from native_api.contract.parameters import parse_filter
from native_api.contract.problem import TITLES, InvalidRequestError
from native_api.definitions.payloads import DefinitionListQuery
from native_api.query.payloads import NameListQuery
from native_api.routes import ROUTES
from promcompat.core.matchers import LabelMatcher, MatchOp

DOCUMENT = build_openapi(ROUTES, "1.2.3")


def test_operations_are_named_once_and_all_references_resolve() -> None:
    operations = [op for item in DOCUMENT["paths"].values() for op in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) == len(ROUTES)
    references: set[str] = set()

    def collect(node: object) -> None:
        match node:
            case dict():
                if isinstance(node.get("$ref"), str):
                    references.add(node["$ref"])
                for value in node.values():
                    collect(value)
            case list():
                for value in node:
                    collect(value)

    collect(DOCUMENT)
    for reference in references:
        target = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src") if name in found]


def test_the_docs_page_needs_nothing_from_elsewhere() -> None:
    page = _Page()
    page.feed(render_docs(DOCUMENT))
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len([element for element in page.ids if element.startswith("problem-")]) == len(TITLES)


def request_with(**headers: str) -> web.Request:
    return make_mocked_request("GET", "/", {k.replace("_", "-"): v for k, v in headers.items()})


@dataclass
class Case:
    header: str
    versions: frozenset[int] | None
    must_exist: bool = False


@pytest.mark.parametrize(
    "case",
    [
        Case('"7"', frozenset({7})),
        Case('"7", "8"', frozenset({7, 8})),
        Case('W/"7"', frozenset()),
        Case('"abc"', frozenset()),
        Case("*", None, True),
    ],
)
def test_if_match_names_versions(case: Case) -> None:
    found = precondition_of(request_with(If_Match=case.header))
    assert (found.versions, found.must_exist) == (case.versions, case.must_exist)


def test_headers_that_are_no_etags_are_refused() -> None:
    for headers in ({"If_Match": "7"}, {"If_None_Match": '"7"'}):
        with pytest.raises(InvalidRequestError):
            precondition_of(request_with(**headers))
    assert is_not_modified(request_with(If_None_Match='W/"7", "9"'), 7)
    assert not is_not_modified(request_with(If_None_Match='"8"'), 7)


def test_merge_patch_is_that_of_the_rfc() -> None:
    target = {"a": "b", "c": {"d": "e", "f": "g"}}
    assert merge_patch(target, {"a": "z", "c": {"f": None}}) == {"a": "z", "c": {"d": "e"}}
    assert merge_patch({"a": [{"b": "c"}]}, {"a": [1]}) == {"a": [1]}
    assert merge_patch(["a"], {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}
    assert target == {"a": "b", "c": {"d": "e", "f": "g"}}


@pytest.mark.parametrize("cursor", ["", "x", "W10", "WzFd", "bnVsbA", "é"])
def test_a_cursor_of_another_kind_is_refused(cursor: str) -> None:
    query = NameListQuery(prefix="a")
    with pytest.raises(InvalidRequestError):
        decode_cursor(query, cursor, str)
    found = encode_cursor(query, "ü", 3)
    longer = NameListQuery(prefix="a", limit=7, cursor=found)
    assert decode_cursor(longer, found, str, int) == ["ü", 3]
    for other in (NameListQuery(prefix="b"), DefinitionListQuery(prefix="a")):
        with pytest.raises(InvalidRequestError, match="another list"):
            decode_cursor(other, found, str, int)


@pytest.mark.parametrize(
    ("text", "matcher"),
    [
        ("a=b", LabelMatcher("a", MatchOp.EQUAL, "b")),
        ("a=", LabelMatcher("a", MatchOp.EQUAL, "")),
        ("a!=b=c", LabelMatcher("a", MatchOp.NOT_EQUAL, "b=c")),
        ("a=~b|c", LabelMatcher("a", MatchOp.REGEX, "b|c")),
        ("a!~.*", LabelMatcher("a", MatchOp.NOT_REGEX, ".*")),
        ("wide name=x\ny", LabelMatcher("wide name", MatchOp.EQUAL, "x\ny")),
    ],
)
def test_filters_are_matchers(text: str, matcher: LabelMatcher) -> None:
    assert parse_filter(text) == matcher


@pytest.mark.parametrize("text", ["", "a", "=b", "__name__=x", "a=~(", "a=\0"])
def test_other_filters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"operator|reserved|parsing|U\+0000"):
        parse_filter(text)
