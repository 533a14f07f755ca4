"""What plugins add to the API, and how one that misbehaves is seen there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sourcebook.errors import ConfigError, NotFound
from sourcebook.hookspecs import hookimpl
from sourcebook.hosts import RouteHost

from .support import Served, is_problem


class Words:
    """Counts words, behind the gate, without importing a web framework."""

    __name__ = "acme-words"

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        @host.router.get("/notebooks/{notebook_id}/title", responses=host.problems(404))  # type: ignore[untyped-decorator]
        async def search(notebook_id: str, caller: Any = host.caller) -> dict[str, str]:
            """The title of a notebook, for whoever may read it."""
            notebook = await caller.notebook(notebook_id)
            return {"title": notebook.title, "owner": caller.principal.name}

        @host.router.post("/raise")  # type: ignore[untyped-decorator]
        async def raising() -> None:
            """Always raises."""
            raise NotFound("There are no words.")


class Mounted(Words):
    """The same, elsewhere."""

    __name__ = "acme-mounted"


class Half:
    """Fails after its first route."""

    __name__ = "acme-half"

    @hookimpl
    def register_routes(self, host: RouteHost) -> None:
        @host.router.get("/there")  # type: ignore[untyped-decorator]
        async def there() -> None:
            """Never answers."""

        raise RuntimeError("out of words")

    @hookimpl
    async def refine_query(self, queries: tuple[str, ...]) -> tuple[str, ...]:
        raise RuntimeError("still out of words")


MOUNT = {"plugins": {"mount": {"acme-mounted": "/words/"}, "enabled": ["acme-absent"]}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    plugins = (Words(), Mounted(), Half())
    with Served(tmp_path_factory.mktemp("plugins"), MOUNT, plugins) as running:
        running.key("root", "admin")
        yield running


PREFIXES = ["/api/v1/x/acme-words", "/words"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_routes_are_under_the_plugins_name_or_where_the_configuration_says(server: Served, prefix: str) -> None:
    zoe, eve = server.key("zoe", "read", "write"), server.key("eve", "read")
    notebook = server.notebook(zoe, title="Tides")
    url = f"{prefix}/notebooks/{notebook}/title"
    assert server.http.get(url, headers=zoe).json() == {"title": "Tides", "owner": "zoe"}
    is_problem(server.http.get(url, headers=eve), 404, "not_found")
    assert server.http.get(url.replace("/words", "/api/v1/x/acme-mounted"), headers=zoe).status_code == (
        404 if prefix == "/words" else 200
    )


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_gate_stands_before_them_wherever_they_are(server: Served, prefix: str) -> None:
    is_problem(server.http.get(f"{prefix}/notebooks/x/title"), 401, "unauthenticated")
    reader, writer = server.key("reader", "read"), server.key("writer", "write")
    is_problem(server.http.post(f"{prefix}/raise", headers=reader), 403, "forbidden")
    is_problem(server.http.post(f"{prefix}/raise", headers=writer), 404, "not_found")


def test_they_are_described_under_a_tag_of_their_own(server: Served) -> None:
    document = server.http.get("/openapi.json").json()
    operation = document["paths"]["/api/v1/x/acme-words/notebooks/{notebook_id}/title"]["get"]
    assert operation["tags"] == ["plugin acme-words"]
    assert operation["description"] == "The title of a notebook, for whoever may read it."
    assert operation["operationId"] == "acme_words_search"  # `search` alone is ours
    assert {"401", "403", "404"} <= set(operation["responses"])
    assert operation["security"]
    assert document["paths"]["/words/raise"]["post"]["tags"] == ["plugin acme-mounted"]
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert tags["plugin acme-words"] == "Added by the plugin local."


def test_a_plugin_whose_routes_raise_has_none_and_is_shown_as_failed(server: Served) -> None:
    admin = server.key("root", "admin", "read")
    is_problem(server.http.get("/api/v1/x/acme-half/there", headers=admin), 404, "not_found")
    shown = {p["name"]: p for p in server.http.get("/api/v1/plugins", headers=admin).json()["items"]}
    assert (shown["acme-half"]["state"], shown["acme-half"]["reason"]) == (
        "failed",
        "register_routes: RuntimeError: out of words",
    )
    assert shown["acme-words"]["state"] == "active"


def test_failures_are_told_by_readyz_to_callers_with_a_key_and_do_not_make_it_fail(server: Served) -> None:
    answer = server.http.get("/readyz?verbose", headers=server.key("root", "read"))
    assert answer.status_code == 200
    said = answer.json()["parts"]["plugins"]
    assert "acme-half: register_routes: RuntimeError: out of words" in said
    assert "acme-absent: it is enabled, and no such distribution" in said
    assert server.http.get("/readyz?verbose").json()["parts"]["plugins"] == "failed"


def test_a_hook_that_is_passed_over_is_counted_where_everybody_sees_it(server: Served) -> None:
    zoe = server.key("zoe", "read", "write")
    notebook = server.notebook(zoe)
    for _ in range(2):
        asked = {"question": "tides", "notebooks": [notebook]}
        assert server.http.post("/api/v1/search", json=asked, headers=zoe).status_code == 200
    shown = {p["name"]: p for p in server.http.get("/api/v1/plugins", headers=zoe).json()["items"]}
    assert shown["acme-half"]["skipped"] == {"refine_query": 2}


def test_a_mount_is_a_path(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"plugins\.mount\.acme-words"):
        Served(tmp_path, {"plugins": {"mount": {"acme-words": "words"}}})
