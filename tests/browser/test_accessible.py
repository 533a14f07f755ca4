"""axe-core finds nothing serious in any state of the page, light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest

from sourcebook.testing.llm_server import FakeLLMServer

from .axe import findings, grave, source
from .conftest import Visit
from .driving import expect
from .scenes import SCENES, Example, example_on
from .serving import Sourcebook

SCHEMES = ["light", pytest.param("dark", marks=pytest.mark.slow)]
LOOKS = [
    pytest.param({1360: "light", 390: "dark"}, id="light when wide"),
    pytest.param({1360: "dark", 390: "light"}, id="dark when wide", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def example(modelled: Sourcebook, llm: FakeLLMServer) -> Example:
    """The bundled example."""
    return example_on(modelled, llm)


@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("scene", SCENES)
def test_nothing_serious_in(
    example: Example, visit: Visit, scene: str, looks: Mapping[int, Literal["light", "dark"]]
) -> None:
    source()
    page = visit(example.server, bypass_csp=True, reduced_motion="reduce").page
    for width, scheme in looks.items():
        page.set_viewport_size({"width": width, "height": 850})
        page.emulate_media(color_scheme=scheme)
        SCENES[scene](page, example)
        assert grave(findings(page)) == [], (width, scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
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


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_serious_in_the_sign_in(keyed: Sourcebook, visit: Visit, scheme: str) -> None:
    source()
    watched = visit(keyed, bypass_csp=True, color_scheme=scheme)
    watched.expected.add("401")
    page = watched.go()
    expect(page.get_by_role("heading", name="Sign in to Sourcebook")).to_be_visible()
    assert grave(findings(page)) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_serious_in_the_reference_of_the_api_which_a_browser_lets_have_its_style(
    modelled: Sourcebook, visit: Visit, scheme: str
) -> None:
    source()
    plain, bypassing = visit(modelled, color_scheme=scheme), visit(modelled, bypass_csp=True, color_scheme=scheme)
    for one in (plain, bypassing):
        one.expected.add("404")  # of an icon, which browsers ask for unasked
    style = "getComputedStyle(document.querySelector('nav')).position"
    assert plain.go("/docs").evaluate(style) == "sticky"
    page = bypassing.go("/docs")
    for width in (1360, 390):
        page.set_viewport_size({"width": width, "height": 850})
        assert grave(findings(page)) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
