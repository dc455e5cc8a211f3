"""The console's files: what the page names is there, and nothing comes from elsewhere."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

WEB = files("siaga_pbx.web")
STATIC = {entry.name: entry.read_text() for entry in WEB.joinpath("static").iterdir()}
PAGE = WEB.joinpath("console.html").read_text()


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.labelled: list[str] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.labelled += given.get("aria-labelledby", "").split()
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def test_nothing_is_inline_so_that_the_policy_need_not_allow_it() -> None:
    assert Page().inline == []


def test_everything_the_page_and_its_scripts_name_is_shipped() -> None:
    for link in Page().links:
        assert link.removeprefix("/static/") in STATIC
    for name, text in STATIC.items():
        if name.endswith(".js"):
            for imported in re.findall(r'from "(.+?)"', text):
                assert imported.removeprefix("./") in STATIC


@pytest.mark.parametrize("name", [*STATIC, "console.html"])
def test_nothing_comes_from_another_host(name: str) -> None:
    text = STATIC.get(name, PAGE).replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
    assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text)


def test_text_never_becomes_markup() -> None:
    for name, text in STATIC.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


def test_each_id_is_there_once_and_the_scripts_find_theirs() -> None:
    ids = Page().ids
    assert len(ids) == len(set(ids))
    used = {id for text in STATIC.values() for id in re.findall(r'(?:byId|openForm)\("([a-z-]+)"', text)}
    assert used
    assert used <= set(ids)
    assert set(Page().labelled) <= set(ids)
