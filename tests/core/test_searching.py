"""Searching: what an index says is only a hint, and what a model reads is the right stretch of text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sourcebook.documents import Chunk, Document, Passage
from sourcebook.errors import IndexUnavailable, InvalidInput, PluginError
from sourcebook.hookspecs import hookimpl
from sourcebook.ids import passage_id

from .support import Memory, Room, in_a_room

MODES = ("hybrid", "lexical", "dense")
GARDEN = "Roses need water.\n\nTulips need sun.\n\nFerns need shade.\n\nMoss needs rain.\n\nOaks need time."


async def search(room: Room, question: str, **more: Any) -> list[Passage]:
    found = await room.book.search(room.me, question, [room.notebook.id], **more)
    return list(found.passages)


async def expanded(room: Room, question: str) -> list[Passage]:
    scope, notebooks = await room.book.notebooks.scope(room.me, [room.notebook.id])
    return list((await room.book.searching.search(question, scope, notebooks, expand=True)).passages)


@in_a_room(pipeline={"embedder": ""})
async def test_the_best_passage_is_first_and_explained(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    found = await search(room, "What do tulips need?")
    assert found[0].text == "Tulips need sun."
    assert found[0].scores == {"lexical": 2.0}
    assert found[0].score == pytest.approx(1)


@in_a_room()
async def test_what_sql_does_not_confirm_is_dropped_and_takes_no_rank(room: Room) -> None:
    source_id = await room.ready("a.txt", GARDEN)
    generation = (await room.source(source_id)).generation_id or ""
    plain = await search(room, "tulips")
    room.index.orphans = [passage_id(generation, 99), "7", "nonsense"]
    again = await search(room, "tulips")
    assert [(p.id, p.score) for p in again] == [(p.id, p.score) for p in plain]


@in_a_room()
async def test_another_owners_hit_is_dropped_even_if_the_index_gives_it(room: Room) -> None:
    bob = await room.principal("bob")
    theirs = await room.book.create_notebook(bob, "Secret")
    await room.book.sources.accept(theirs, "s.txt", _once(b"Tulips are my secret."))
    await room.work()
    await room.ready("a.txt", GARDEN)
    room.index.orphans = [p.id for p, _ in room.index.points.values() if p.notebook_id == theirs.id]
    assert len(room.index.orphans) == 1
    assert all(p.notebook_id == room.notebook.id for p in await search(room, "tulips secret"))


async def _once(data: bytes) -> Any:
    yield data


@in_a_room(pipeline={"embedder": ""})
async def test_it_may_be_narrowed_to_sources_even_where_an_index_does_not_listen(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    wanted = await room.ready("b.txt", "Tulips again.")
    everything = room.index.search

    async def deaf(query: Any) -> Any:
        return await everything(replace(query, sources=None))

    room.index.search = deaf  # type: ignore[method-assign]
    assert {p.source_id for p in await search(room, "tulips", sources=[wanted])} == {wanted}
    assert await search(room, "tulips", sources=[]) == []


@in_a_room(pipeline={"embedder": ""}, filters={"year": "number", "author": "text"})
async def test_filters_hold_in_the_index_and_again_in_sql(room: Room) -> None:
    old = await room.ready("a.txt", GARDEN, tags=["garden"], metadata={"year": 1990, "author": "Lee"})
    new = await room.ready("b.txt", "Tulips again.", tags=["garden", "new"], metadata={"year": 2020})
    for filters, wanted in (
        ({"year": {"gte": 2000}}, {new}),
        ({"author": "Lee"}, {old}),
        ({"not": {"author": "Lee"}}, {new}),
        ({"tags": ["new", "x"]}, {new}),
        ({"tags": "garden", "source": old}, {old}),
        ({"or": [{"source": new}, {"name": "a.txt"}]}, {old, new}),
        ({"added": {"lt": "2000-01-01"}}, set()),
        ({}, {old, new}),
    ):
        assert {p.source_id for p in await search(room, "tulips", filters=filters)} == wanted, filters
    everything = room.index.search
    room.index.search = lambda query: everything(replace(query, filters=None))  # type: ignore[method-assign]
    assert {p.source_id for p in await search(room, "tulips", filters={"year": 1990})} == {old}
    with pytest.raises(InvalidInput, match="yeer is not a key"):
        await search(room, "tulips", filters={"yeer": 1})


@in_a_room(pipelines={"other": {"chunker": "blocks", "retrievers": ["second"], "llm": ["script"]}})
async def test_several_notebooks_are_searched_each_with_its_own_pipeline(room: Room) -> None:
    other = await room.book.create_notebook(room.me, "Kitchen", pipeline="other")
    await room.ready("a.txt", GARDEN)
    await room.ready("b.txt", "Tulips are no food.", other)
    found = await room.book.search(room.me, "tulips", [room.notebook.id, other.id])
    assert {p.notebook_id for p in found.passages} == {room.notebook.id, other.id}
    first, second = room.book.pipelines.indexes
    assert isinstance(first, Memory)
    assert isinstance(second, Memory)
    assert [n.notebook_id for n in first.queries[-1].scope.notebooks] == [room.notebook.id]
    assert [n.notebook_id for n in second.queries[-1].scope.notebooks] == [other.id]
    assert second.queries[-1].vectors is None


@in_a_room(pipeline={"embedder": "", "retrievers": ["memory", "second"]})
async def test_legs_of_several_retrievers_are_kept_apart(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    assert set((await search(room, "tulips"))[0].scores) == {"lexical@memory", "lexical@second"}


@in_a_room(pipeline={"search": {"threshold": 0.9}, "embedder": ""})
async def test_what_is_below_the_threshold_is_left_out(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    assert len(await search(room, "need")) == 5 - 1  # all but the moss, which "needs"
    scores = [p.score for p in await search(room, "need")]
    assert min(scores) >= 0.9


@in_a_room(pipeline={"search": {"threshold": 0.99, "limit": 2}, "embedder": ""})
async def test_a_limit_may_be_asked_for(room: Room) -> None:
    await room.ready("a.txt", "\n\n".join(f"Tulip number {n}." for n in range(20)))
    assert len(await search(room, "tulip")) == 1  # the threshold leaves one
    assert room.index.queries[-1].limit == 100  # as deep as `candidates`: fusing needs more than is shown
    await search(room, "tulip", limit=5)
    assert room.index.queries[-1].limit == 100
    await search(room, "tulip", limit=50)
    assert room.index.queries[-1].limit == 50 * 4


@in_a_room(pipeline={"reranker": "shortest", "embedder": ""})
async def test_a_reranker_has_the_last_word_on_the_order(room: Room) -> None:
    await room.ready("a.txt", "Tulips, tulips, tulips need a lot of sun.\n\nTulips.")
    found = await search(room, "tulips need sun")
    assert [p.text for p in found] == ["Tulips.", "Tulips, tulips, tulips need a lot of sun."]
    assert found[0].scores["rerank"] == found[0].score == pytest.approx(1 / 7)


@in_a_room(pipeline={"reranker": "shortest"})
async def test_a_reranker_that_miscounts_is_named(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    reranker = next(iter(room.book.pipelines)).reranker

    async def short(*_: Any) -> list[float]:
        return [1.0]

    reranker.rerank = short
    with pytest.raises(PluginError, match="The reranker shortest gave 1 scores for 5"):
        await search(room, "tulips")


@in_a_room()
async def test_an_index_that_does_not_answer_is_said(room: Room) -> None:
    async def down(_: Any) -> Any:
        raise IndexUnavailable("It does not answer.")

    room.index.search = down  # type: ignore[method-assign, assignment]
    with pytest.raises(IndexUnavailable):
        await search(room, "tulips")


# What a model reads.


@in_a_room(pipeline={"search": {"neighbours": 1, "limit": 1}, "embedder": ""})
async def test_neighbours_are_shown_on_both_sides_and_not_beyond_the_ends(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    for asked, shown in (
        ("ferns", "Tulips need sun.\n\nFerns need shade.\n\nMoss needs rain."),
        ("roses", "Roses need water.\n\nTulips need sun."),
        ("oaks", "Moss needs rain.\n\nOaks need time."),
    ):
        passage = (await expanded(room, asked))[0]
        assert passage.prompt_text == shown
        assert passage.prompt_start == GARDEN.index(shown)
        assert passage.text in shown


@in_a_room(pipeline={"search": {"neighbours": 2}, "embedder": ""})
async def test_what_another_passage_shows_already_is_left_out(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    found = await expanded(room, "ferns need")
    shown = [(p.prompt_start, p.prompt_start + len(p.prompt_text)) for p in found]
    assert all(not (a[0] <= p.start and p.end <= a[1]) for a, p in zip(shown, found[1:], strict=False))
    assert found[0].prompt_text == GARDEN
    assert len(found) == 1


@in_a_room(pipeline={"embedder": ""})
async def test_a_parent_is_shown_in_its_chunks_place(room: Room) -> None:
    def cut(document: Document) -> list[Chunk]:
        first, *rest = [Chunk(b.start, b.end) for b in document.blocks]
        return [first, *(Chunk(c.start, c.end, parent=(first.end + 2, len(document.text))) for c in rest)]

    room.jail.chunks = cut
    await room.ready("a.txt", GARDEN)
    passage = (await expanded(room, "ferns"))[0]
    assert passage.text == "Ferns need shade."
    assert passage.prompt_text == GARDEN[passage.prompt_start :] == GARDEN.partition("\n\n")[2]
    alone = (await expanded(room, "roses"))[0]
    assert (alone.shown, alone.prompt_text, alone.prompt_start) == ("", "Roses need water.", 0)


@in_a_room(pipeline={"embedder": "", "search": {"prefer_parent": False}})
async def test_parents_may_be_switched_off(room: Room) -> None:
    room.jail.chunks = lambda d: [Chunk(b.start, b.end, parent=(0, len(d.text))) for b in d.blocks]
    await room.ready("a.txt", GARDEN)
    assert (await expanded(room, "ferns"))[0].prompt_text == "Ferns need shade."


# Plugins in between.


class Refining:
    __name__ = "refining"

    @hookimpl
    async def refine_query(self, question: str, queries: tuple[str, ...]) -> tuple[str, ...]:
        return (*queries, "oaks")

    @hookimpl
    async def refine_passages(self, passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        return passages[::-1]


@in_a_room(plugins=[Refining()], pipeline={"embedder": ""})
async def test_plugins_may_add_queries_and_reorder_passages(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    found = await room.book.search(room.me, "tulips", [room.notebook.id])
    assert found.queries == ("tulips", "oaks")
    assert room.index.queries[-1].texts == ("tulips", "oaks")
    assert {p.text for p in found.passages} == {"Oaks need time.", "Tulips need sun."}
    assert [p.score for p in found.passages] == sorted(p.score for p in found.passages)


@in_a_room(plugins=[Refining()])
async def test_every_query_is_embedded(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    await search(room, "tulips")
    vectors = room.index.queries[-1].vectors
    assert vectors is not None
    assert vectors["letters"].shape == (2, 26)


@in_a_room()
async def test_a_mode_chooses_the_legs(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    legs = {mode: {leg for p in await search(room, "tulips", mode=mode) for leg in p.scores} for mode in MODES}
    assert legs == {"hybrid": {"lexical", "dense:letters"}, "lexical": {"lexical"}, "dense": {"dense:letters"}}
    await search(room, "ferns", mode="lexical")
    assert room.index.queries[-1].vectors is None, "a lexical search embeds nothing"


@in_a_room(pipeline={"embedder": ""})
async def test_dense_search_without_an_embedder_is_refused(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    with pytest.raises(InvalidInput) as refused:
        await search(room, "tulips", mode="dense")
    assert refused.value.problem_code == "no_embedder"


@in_a_room(pipeline={"reranker": "shortest", "search": {"diversity": 0.3}})
async def test_an_explanation_has_every_stages_ranks_and_scores(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    found = await room.book.search(room.me, "What do tulips need?", [room.notebook.id], limit=3, explain=True)
    assert found.explanation is not None
    stages = [stage["stage"] for stage in found.explanation["stages"]]
    assert stages == ["queries", "search", "fusion", "rerank", "diversity", "result"]
    assert set(found.explanation["passages"]) == {p.id for p in found.passages}
    for place, p in enumerate(found.passages, 1):
        one = found.explanation["passages"][p.id]
        assert {leg: at["score"] for leg, at in one["legs"].items()} == pytest.approx(
            {leg: s for leg, s in p.scores.items() if leg != "rerank"}, abs=1e-6
        )
        assert one["diversity"]["rank"] == place
        assert one["rerank"]["score"] == pytest.approx(p.scores["rerank"], abs=1e-6)
    plain = await room.book.search(room.me, "What do tulips need?", [room.notebook.id], limit=3)
    assert plain.explanation is None
    assert [p.id for p in plain.passages] == [p.id for p in found.passages]


@in_a_room(pipeline={"embedder": ""})
async def test_notebooks_have_weights_and_zero_leaves_one_out(room: Room) -> None:
    other = await room.book.create_notebook(room.me, "Other")
    await room.ready("a.txt", "Tulips need sun.")
    await room.ready("b.txt", "Tulips need sun and tulips need water.", other)
    ids = [room.notebook.id, other.id]

    async def order(weights: dict[str, float]) -> list[str]:
        found = await room.book.search(room.me, "tulips need sun", ids, weights=weights)
        return [p.notebook_id for p in found.passages]

    assert await order({other.id: 0.1}) == ids
    assert await order({room.notebook.id: 0.1}) == ids[::-1]
    assert await order({other.id: 0}) == ids[:1]
    assert await order(dict.fromkeys(ids, 0)) == []


@in_a_room(pipeline={"embedder": "", "search": {"diversity": 0.6, "limit": 2}})
async def test_what_says_the_same_again_makes_room_for_something_else(room: Room) -> None:
    same = "Tulips and roses need sun, water, time and love."
    await room.ready("a.txt", f"{same}\n\n{same}\n\nTulips have a short life in spring.")
    texts = [p.text for p in await search(room, "tulips and roses need sun")]
    assert texts == [same, "Tulips have a short life in spring."]


@in_a_room(cache={"queries": 10})
async def test_a_search_is_remembered_until_what_is_found_changes(room: Room) -> None:
    first = await room.ready("a.txt", GARDEN)
    for _ in range(3):
        await search(room, "tulips")
    assert len(room.index.queries) == 1
    assert len(await search(room, "tulips", mode="lexical")) == 1  # another question is another search
    second = await room.ready("b.txt", "Tulips again.")
    assert {p.source_id for p in await search(room, "tulips", mode="lexical")} == {first, second}
    await room.book.sources.delete(room.me, first)
    assert {p.source_id for p in await search(room, "tulips", mode="lexical")} == {second}
    asked = len(room.index.queries)
    await search(room, "tulips", mode="lexical")
    assert len(room.index.queries) == asked


@in_a_room(cache={"queries": 0})
async def test_nothing_is_remembered_where_nothing_may_be(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    for _ in range(2):
        await search(room, "tulips")
    assert len(room.index.queries) == 2
