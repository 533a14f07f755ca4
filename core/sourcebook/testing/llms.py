"""What every language model must do. Subclass `LLMContract` in a test module, and pytest runs it on yours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sourcebook.errors import LLMError
from sourcebook.events import Delta, Finish, Reasoning, Text, ToolCall, Usage
from sourcebook.interfaces import LLM, LLMRequest, Message
from sourcebook.testing.components import opened
from sourcebook.testing.deadlines import Timely

REASONS = {"stop", "length", "content_filter", "other"}
BOUND = 10.0
"""Seconds that the suite waits for what must happen, before it calls it missing."""
CLOSES_WITHIN, TRIES = 0.1, 10
"""Seconds in which the upstream of an answer that nobody reads on must see the end, in the best of so many tries."""


def request_of(question: str = "What is this?") -> LLMRequest:
    """A small request without passages."""
    return LLMRequest((Message("system", "Answer briefly."), Message("user", question)), question)


async def close(stream: AsyncIterator[Delta]) -> None:
    """End an answer that nobody reads on, as a run does when it is cancelled."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()


async def _until_closed(closed: Callable[[float], bool], began: float) -> float:
    """Seconds from `began` until the upstream saw the end. An upstream that never does fails the test at once."""
    assert await asyncio.to_thread(closed, BOUND), f"the upstream was still open after {BOUND:g} s"
    return time.perf_counter() - began


class LLMContract(Timely):
    """The suite. A subclass gives contexts (`@contextmanager` methods) in which its model's server stands:

        class TestMine(LLMContract):
            @contextmanager
            def answering(self):
                with FakeLLMServer() as server:
                    yield Mine(Mine.Settings(base_url=server.url))

    `hanging` gives a model whose answer begins and never ends, and a function that waits until its upstream was closed
    and says whether it was. `failing` gives one whose server refuses. Both may be left out by a model without a server.
    """

    def answering(self) -> AbstractContextManager[LLM[Any]]:
        """A model that answers, not open yet."""
        raise NotImplementedError

    def hanging(self) -> AbstractContextManager[tuple[LLM[Any], Callable[[float], bool]]]:
        """A model that begins an answer and stops, and `closed(timeout) -> bool`."""
        pytest.skip("this model has no upstream that could hang")

    def failing(self) -> AbstractContextManager[LLM[Any]]:
        """A model whose every answer fails."""
        pytest.skip("this model has no upstream that could fail")

    def deltas(self) -> list[Delta]:
        """One whole answer."""

        async def main(llm: LLM[Any]) -> list[Delta]:
            async with opened(llm):
                return [delta async for delta in llm.stream(request_of())]

        with self.answering() as llm:
            return self._run(f"The model {llm.name!r}", main(llm))

    def test_an_answer_has_text_and_one_finish_and_ends_with_it(self) -> None:
        deltas = self.deltas()
        kinds = [type(delta) for delta in deltas]
        assert Text in kinds
        assert kinds.count(Finish) == 1, "a stream without Finish was cut"
        assert set(kinds[kinds.index(Finish) + 1 :]) <= {Usage}, "only usage comes after Finish"
        assert set(kinds) <= {Reasoning, Text, ToolCall, Finish, Usage}

    def test_no_piece_is_empty_and_the_reason_is_known(self) -> None:
        for delta in self.deltas():
            if isinstance(delta, Text | Reasoning):
                assert delta.text
                delta.text.encode()  # no lone surrogates
            if isinstance(delta, Finish):
                assert delta.reason in REASONS

    def test_usage_counts_what_was_read_and_written(self) -> None:
        for delta in self.deltas():
            if isinstance(delta, Usage):
                assert delta.prompt >= 0
                assert delta.completion >= 0

    def test_thoughts_come_before_the_answer_ends(self) -> None:
        kinds = [type(delta) for delta in self.deltas()]
        last_text = max(i for i, kind in enumerate(kinds) if kind is Text)
        assert all(i < last_text for i, kind in enumerate(kinds) if kind is Reasoning)

    def test_several_answers_may_be_read_at_once(self) -> None:
        async def main(llm: LLM[Any]) -> list[list[Delta]]:
            async def one() -> list[Delta]:
                return [delta async for delta in llm.stream(request_of())]

            async with opened(llm):
                return await asyncio.gather(*(one() for _ in range(5)))

        with self.answering() as llm:
            answers = self._run(f"The model {llm.name!r}", main(llm))
        assert all(any(isinstance(delta, Finish) for delta in answer) for answer in answers)

    def test_it_says_what_fits(self) -> None:
        with self.answering() as llm:
            assert llm.context_window >= 256
            none, some = self._timely(f"Counting by {llm.name!r}", lambda: (llm.count(""), llm.count("word " * 1000)))
        assert none >= 0
        assert some >= 500, "an estimate is on the high side"

    def test_closing_the_iterator_closes_the_upstream_within_100_ms(
        self, record_property: Callable[[str, object], None]
    ) -> None:
        """The least of some tries counts: a machine that is busy elsewhere can only add to it."""

        async def main(llm: LLM[Any], closed: Callable[[float], bool]) -> float:
            async with opened(llm):
                stream = llm.stream(request_of())
                await anext(stream)
                began = time.perf_counter()
                await close(stream)
                return await _until_closed(closed, began)

        self._closes_in_time(main, record_property)

    def test_cancelling_the_reader_closes_the_upstream_within_100_ms(
        self, record_property: Callable[[str, object], None]
    ) -> None:
        async def main(llm: LLM[Any], closed: Callable[[float], bool]) -> float:
            async with opened(llm):
                begun = asyncio.Event()

                async def read() -> None:
                    async for _ in llm.stream(request_of()):
                        begun.set()

                task = asyncio.ensure_future(read())
                await asyncio.wait_for(begun.wait(), BOUND)
                began = time.perf_counter()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return await _until_closed(closed, began)

        self._closes_in_time(main, record_property)

    def _closes_in_time(
        self,
        main: Callable[[LLM[Any], Callable[[float], bool]], Coroutine[Any, Any, float]],
        record_property: Callable[[str, object], None],
    ) -> None:
        """The best time goes into the report (`--junit-xml`) as `closed_after_ms`."""
        best = BOUND
        for _ in range(TRIES):
            with self.hanging() as (llm, closed):
                best = min(best, self._run(f"The model {llm.name!r}", main(llm, closed)))
            if best < CLOSES_WITHIN:
                break
        record_property("closed_after_ms", round(best * 1000, 1))
        assert best < CLOSES_WITHIN, f"the upstream was closed after {best * 1000:.0f} ms at best"

    def test_nothing_is_opened_before_the_first_piece_is_asked_for(self) -> None:
        async def main(llm: LLM[Any]) -> None:
            async with opened(llm):
                await close(llm.stream(request_of()))

        with self.failing() as llm:
            self._run(f"The model {llm.name!r}", main(llm))  # a failing server is not noticed

    def test_a_failure_is_raised_as_an_llm_error_with_a_code(self) -> None:
        async def main(llm: LLM[Any]) -> LLMError:
            async with opened(llm):
                with pytest.raises(LLMError) as caught:
                    async for _ in llm.stream(request_of()):
                        pass
                return caught.value

        with self.failing() as llm:
            error = self._run(f"The model {llm.name!r}", main(llm))
        assert error.detail
        assert error.problem_code.startswith("llm_")
