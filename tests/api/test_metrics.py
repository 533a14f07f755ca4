"""`/metrics`: what operators watch is counted, is documented, and tells nobody whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from sourcebook.hookspecs import hookimpl
from sourcebook.metrics_made import Made
from sourcebook.testing.llm_server import FakeLLMServer, Reply, json_reply, stream_of

from .support import Served, is_problem

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
SECRET_WORDS = "The vicar's umbrella"


class Failing:
    """A plugin whose hook never works."""

    __name__ = "failing"

    @hookimpl
    async def refine_query(self, question: str, queries: tuple[str, ...]) -> None:
        raise RuntimeError("no")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[Served]:
    """A server that has counted nothing yet."""
    overrides = {
        "llms": {"counted": {"use": "openai", "base_url": llm.url, "model": "fake"}},
        "pipelines": {"model": {"extends": "default", "llm": ["counted"]}},
    }
    with Served(tmp_path_factory.mktemp("metrics"), overrides, (Failing(),)) as server:
        yield server


def scraped(server: Served) -> dict[str, Metric]:
    """What a scrape gives, by name."""
    answer = server.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(found: dict[str, Metric], name: str, suffix: str = "", **labels: str) -> float:
    """One sample's; 0 where it was never counted."""
    for sample in found[name].samples:
        if sample.name == name + suffix and sample.labels == labels:
            return float(sample.value)
    return 0.0


def test_an_answer_and_what_it_took_are_counted(fresh: Served, llm: FakeLLMServer) -> None:
    before = scraped(fresh)
    book = fresh.notebook(pipeline="model")
    fresh.source(book)
    llm.script(Reply(stream_of(["The harbour closes at ten in the evening [1]. ", "Cows fly over the moon [1]."])))
    asked = {"question": "When does the harbour close?", "notebooks": [book]}
    assert fresh.http.post("/api/v1/chat", json=asked).status_code == 200
    after = scraped(fresh)

    def grown(name: str, suffix: str = "", **labels: str) -> float:
        return value(after, name, suffix, **labels) - value(before, name, suffix, **labels)

    assert grown("sourcebook_runs", "_total", outcome="done") == 1
    assert grown("sourcebook_run_seconds", "_count") == 1
    assert grown("sourcebook_first_token_seconds", "_count", llm="counted") == 1
    assert grown("sourcebook_tokens", "_total", llm="counted", kind="completion") > 0
    assert grown("sourcebook_unsupported_citations", "_total") == 1
    assert grown("sourcebook_retrieval_seconds", "_count") == 1
    assert grown("sourcebook_stage_seconds", "_count", stage="parsing") == 1
    assert grown("sourcebook_stage_seconds", "_count", stage="indexing") == 1
    assert grown("sourcebook_hook_failures", "_total", plugin="failing", hook="refine_query") == 1
    assert value(after, "sourcebook_open_runs") == 0


def test_every_call_of_a_component_is_counted_and_so_is_its_failure(fresh: Served, llm: FakeLLMServer) -> None:
    def count(of: str, suffix: str, **labels: str) -> float:
        return value(scraped(fresh), f"sourcebook_component_{of}", suffix, **labels)

    model = {"kind": "llms", "instance": "counted", "call": "stream"}
    index = {"kind": "retrievers", "instance": "qdrant", "call": "upsert"}
    files = {"kind": "blob_stores", "instance": "files", "call": "put"}
    parser = {"kind": "parsers", "instance": "markdown", "call": "parse"}
    before = {repr(c): count("seconds", "_count", **c) for c in (model, index, files, parser)}
    failures = count("failures", "_total", **model)
    book = fresh.notebook(pipeline="model")
    fresh.source(book)
    llm.script(json_reply({"error": {"message": "no"}}, 400))
    asked = {"question": "When does the harbour close?", "notebooks": [book]}
    fresh.http.post("/api/v1/chat", json=asked)
    for one in (model, index, files, parser):
        assert count("seconds", "_count", **one) == before[repr(one)] + 1, one
    assert count("failures", "_total", **model) == failures + 1
    assert count("failures", "_total", **index) == 0


def test_requests_are_counted_by_their_routes_whatever_words_are_in_them(fresh: Served) -> None:
    fresh.http.get("/api/v1/notebooks/nb_1")
    fresh.http.request("PROPFIND", "/nowhere/nb_1")
    found = scraped(fresh)
    route = {"method": "GET", "route": "/api/v1/notebooks/{notebook_id}", "status": "404"}
    assert value(found, "sourcebook_requests", "_total", **route) == 1
    assert {"other", "GET"} <= {s.labels["method"] for s in found["sourcebook_requests"].samples}
    assert "PROPFIND" not in fresh.http.get("/metrics").text
    assert "nb_1" not in fresh.http.get("/metrics").text


def test_labels_are_the_configurations_words_alone(fresh: Served) -> None:
    """However much is asked, there are no more series than instances, methods, hooks and stages."""

    def series() -> set[tuple[str, ...]]:
        return {(s.name, *s.labels.values()) for family in scraped(fresh).values() for s in family.samples}

    book = fresh.notebook()
    fresh.source(book)
    fresh.http.post("/api/v1/search", json={"question": "harbour", "notebooks": [book]})
    before = series()
    for n in range(5):
        book = fresh.notebook(title=f"Book {n}")
        fresh.source(book, name=f"{n}.md", data=f"# {n}".encode())
        fresh.http.post("/api/v1/search", json={"question": f"harbour {n}", "notebooks": [book]})
    assert series() == before


def test_a_search_that_finds_nothing_is_counted(fresh: Served) -> None:
    empty = fresh.notebook()
    before = value(scraped(fresh), "sourcebook_empty_retrievals", "_total")
    fresh.http.post("/api/v1/search", json={"question": SECRET_WORDS, "notebooks": [empty]})
    assert value(scraped(fresh), "sourcebook_empty_retrievals", "_total") == before + 1


def test_nothing_says_whose_it_is(fresh: Served) -> None:
    book = fresh.notebook(title=SECRET_WORDS)
    fresh.http.post("/api/v1/search", json={"question": SECRET_WORDS, "notebooks": [book]})
    text = fresh.http.get("/metrics").text
    assert SECRET_WORDS not in text
    assert book not in text
    assert "own_" not in text


def test_only_an_admin_reads_them(keyed: Served) -> None:
    is_problem(keyed.http.get("/metrics"), 401, "unauthenticated")
    is_problem(keyed.http.get("/metrics", headers=keyed.key("reader", "read", "write")), 403, "forbidden")
    assert keyed.http.get("/metrics", headers=keyed.key("watcher", "admin")).status_code == 200


def test_every_metric_is_documented() -> None:
    described = DOCUMENT.read_text("utf-8")
    for family in Made().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{name}` |" in described, f"docs/operations.md does not tell of {name}"
