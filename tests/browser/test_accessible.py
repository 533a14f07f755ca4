"""axe-core finds nothing serious in any state of the page, light and dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sourcebook.testing.llm_server import FakeLLMServer

from .axe import findings, grave, source
from .conftest import Visit
from .driving import expect
from .scenes import SCENES, Example, example_on
from .serving import Sourcebook, serving


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """The bundled example on a server of its own."""
    with FakeLLMServer() as llm, serving(tmp_path_factory.mktemp("example"), llm.url) as server:
        yield example_on(server, llm)


@pytest.mark.parametrize("width", [1360, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_serious_in(example: Example, visit: Visit, scene: str, scheme: str, width: int) -> None:
    source()
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 850}, "reduced_motion": "reduce"}
    page = visit(example.server, bypass_csp=True, **options).page
    SCENES[scene](page, example)
    assert grave(findings(page)) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_in_dialogs_menus_and_forms(example: Example, visit: Visit, scheme: str) -> None:
    source()
    page = visit(example.server, bypass_csp=True, color_scheme=scheme, reduced_motion="reduce").page
    SCENES["answer"](page, example)
    page.get_by_role("button", name="Add sources").click()
    assert grave(findings(page)) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Actions for tolvane-harbour-handbook.pdf").click()
    assert grave(findings(page)) == []
    page.keyboard.press("Escape")
    page.get_by_title("Conversations").click()
    expect(page.get_by_role("menu", name="Conversations").get_by_role("menuitem").first).to_be_visible()
    assert grave(findings(page)) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New note").click()
    assert grave(findings(page)) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_in_the_sign_in(keyed: Sourcebook, visit: Visit, scheme: str) -> None:
    source()
    watched = visit(keyed, bypass_csp=True, color_scheme=scheme)
    watched.expected.add("401")
    page = watched.go()
    expect(page.get_by_role("heading", name="Sign in to Sourcebook")).to_be_visible()
    assert grave(findings(page)) == []
