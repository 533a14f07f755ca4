"""What the page's files are, and what a server that has it answers at `/`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sourcebook_plugins.webui.serving import HEADERS, TYPES, assets
from tests.api.support import Served, is_problem

STATIC = Path(__file__).parents[3] / "plugins" / "sourcebook_plugins" / "webui" / "static"
FILES = assets()
MOST = 150_000
HTML = {"Accept": "text/html,application/xhtml+xml"}
# The name of a format, which nobody fetches.
NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("page")) as server:
        yield server


class Scripts(HTMLParser):
    """What a page runs, and what it styles."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.addresses: list[str] = []
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag if tag in ("script", "style") else ""
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in and data.strip():
            self.inline.append(data)


def test_every_file_of_the_folder_is_served_and_has_a_type() -> None:
    there = {f.relative_to(STATIC).as_posix() for f in STATIC.rglob("*") if f.is_file()}
    assert there == set(FILES)
    assert {Path(name).suffix for name in there} <= set(TYPES)


def test_all_files_together_are_small() -> None:
    assert sum(len(a.body) for a in FILES.values()) < MOST


def test_no_file_names_another_host() -> None:
    for name, asset in FILES.items():
        text = asset.body.decode().replace(NAMESPACE, "")
        assert not re.findall(r"""(?:https?:)?//[\w-]+\.[\w.-]+""", text), name


def test_the_page_holds_no_inline_script_and_no_style() -> None:
    page = Scripts()
    page.feed(FILES["index.html"].body.decode())
    assert page.inline == []
    assert page.addresses
    assert all(address.removeprefix("static/") in FILES for address in page.addresses)


def test_a_string_becomes_html_in_one_function_alone() -> None:
    ways = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML|DOMParser"
        r"|\beval\(|new Function"
    )
    uses = [(name, use) for name, a in FILES.items() if name.endswith(".js") for use in ways.findall(a.body.decode())]
    assert uses == [("dom.js", "innerHTML")]


def test_every_module_that_is_imported_is_there() -> None:
    for name, asset in FILES.items():
        if name.endswith(".js"):
            for imported in re.findall(
                r"""^(?:import|export) (?:[^;]*? from )?"(\./|\.\./)([^"]+)";""", asset.body.decode(), re.M
            ):
                up, path = imported
                folder = Path(name).parent if up == "./" else Path(name).parent.parent
                assert (folder / path).as_posix() in FILES, (name, path)


def code(name: str) -> str:
    """A module without its comments."""
    return re.sub(r"^\s*//[^\n]*|/\*\*.*?\*/", "", FILES[name].body.decode(), flags=re.M | re.S)


def words_of(name: str) -> dict[str, list[str]]:
    """Key -> the words of a language's file, a plural's forms each. The files are that regular."""
    found: dict[str, list[str]] = {}
    group = ""
    for line in FILES[name].body.decode().partition("export default {\n")[2].splitlines():
        if opened := re.fullmatch(r"(\w+): {", line):
            group = opened[1]
        elif line in ("},", "};"):
            group = ""
        else:
            entry = re.fullmatch(r' *"?([\w.]*)"?: (".*"|{ .* }),', line)
            assert entry, line
            key = f"{group}.{entry[1]}".strip(".")
            assert key not in found, key
            found[key] = re.findall(r'"([^"]*)"', entry[2])
    return found


def test_every_word_that_the_page_says_is_in_every_language() -> None:
    english = words_of("strings.en.js")
    said = {key for name in FILES if name.endswith(".js") for key in re.findall(r"""\bt\("([\w.]+)\"""", code(name))}
    assert len(said) > 20
    assert said - set(english) == set()
    assert set(words_of("strings.de.js")) == set(english)


def test_every_language_fills_in_the_same_values() -> None:
    english, german = words_of("strings.en.js"), words_of("strings.de.js")
    for key, forms in english.items():
        values = [{*re.findall(r"{\w+}", form)} for form in (*forms, *german[key])]
        assert all(one == values[0] for one in values), key
        assert len(german[key]) == len(forms), key
        assert all(german[key]), key


def test_languages_that_can_be_chosen_have_a_file_and_the_other_way_round() -> None:
    offered = re.search(r"LANGUAGES = {(.*?)}", code("strings.js"))
    assert offered
    there = {name.split(".")[1] for name in FILES if re.fullmatch(r"strings\.\w+\.js", name)}
    assert {*re.findall(r"(\w+):", offered[1])} == there


def test_browsers_get_the_page_and_programs_what_they_had(served: Served) -> None:
    page = served.http.get("/", headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.content == FILES["index.html"].body
    assert page.headers["vary"] == "Accept"
    assert served.http.get("/").json()["name"] == "Sourcebook"
    assert served.http.get("/").json()["authenticated"] is True
    assert served.http.get("/", headers={"Accept": "application/json"}).json()["documentation"] == "/docs"


def test_every_file_has_its_type_its_policy_and_a_strong_etag(served: Served) -> None:
    for name, asset in FILES.items():
        answer = served.http.get(f"/static/{name}")
        assert (answer.status_code, answer.content) == (200, asset.body)
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
        assert answer.headers["etag"] == asset.etag
        assert not asset.etag.startswith("W/")
        assert all(answer.headers[n] == value for n, value in HEADERS.items())
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert len({a.etag for a in FILES.values()}) == len(FILES)


def test_the_policy_allows_this_host_alone_and_nothing_inline(served: Served) -> None:
    policy = served.http.get("/", headers=HTML).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert {rules[n] for n in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert rules["img-src"] == "'self' blob:"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in policy


def test_a_file_that_the_browser_has_is_not_sent_again(served: Served) -> None:
    etag = FILES["main.js"].etag
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = served.http.get("/static/main.js", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert served.http.get("/static/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_has_the_headers_and_no_body(served: Served) -> None:
    answer = served.http.head("/static/main.js")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(FILES["main.js"].body))


@pytest.mark.parametrize("path", ["nothing.js", "..%2fserving.py", "../serving.py", "views", "", "%2e%2e/__init__.py"])
def test_nothing_but_the_pages_files_is_served(served: Served, path: str) -> None:
    is_problem(served.http.get(f"/static/{path}"), 404, "not_found")


def test_the_page_needs_no_key_and_what_it_asks_for_does(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        key = server.key("ada", "read")
        assert server.http.get("/", headers=HTML).status_code == 200
        assert server.http.get("/static/main.js").status_code == 200
        assert server.http.get("/", headers={**HTML, "Authorization": "Bearer sbk_wrong"}).status_code == 200
        assert server.http.get("/api/v1/notebooks").status_code == 401
        assert [server.http.get("/", headers=h).json()["authenticated"] for h in ({}, key)] == [False, True]
        assert server.http.post("/static/main.js").status_code == 401


def test_the_page_can_be_off(tmp_path: Path) -> None:
    with Served(tmp_path, {"plugins": {"disabled": ["webui"]}}) as server:
        assert server.http.get("/", headers=HTML).json()["name"] == "Sourcebook"
        assert server.http.get("/static/main.js").status_code == 404


def test_the_page_can_stand_elsewhere(tmp_path: Path) -> None:
    with Served(tmp_path, {"plugins": {"mount": {"webui": "/page"}}}) as server:
        assert server.http.get("/", headers=HTML).json()["name"] == "Sourcebook"
        moved = server.http.get("/page", headers=HTML)
        assert (moved.status_code, moved.headers["location"]) == (308, "/page/")
        assert server.http.get("/page/", headers=HTML).content == FILES["index.html"].body
        assert server.http.get("/page/static/views/notes.js").status_code == 200
