"""What operators watch, for Prometheus: each of these is counted in this process alone, and none says whose.

Labels are few and fixed by the configuration (a model's instance, a hook, a plugin): never an owner, a notebook or a
word of anybody's. docs/operations.md lists them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from sourcebook.events import Event, Retrieval, UsageEvent

if TYPE_CHECKING:
    from sourcebook.metrics_made import Made

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one Sourcebook. The library is loaded when something is counted first: a start need not wait."""

    @cached_property
    def _made(self) -> Made:
        from sourcebook.metrics_made import Made

        return Made()

    def searched(self, seconds: float, passages: int) -> None:
        """One search, of a question or for its own sake."""
        self._made.retrieval.observe(seconds)
        if not passages:
            self._made.empty.inc()

    def event(self, event: Event) -> None:
        """What an answer tells of itself."""
        if isinstance(event, UsageEvent):
            self._answered(event)
        elif isinstance(event, Retrieval) and event.irrelevant:
            self._made.irrelevant.inc(event.irrelevant)

    def ended(self, outcome: str, seconds: float, unsupported: int) -> None:
        """A run, with how many of its citations do not support their sentence."""
        self._made.runs.labels(outcome).inc()
        self._made.run.observe(seconds)
        if unsupported:
            self._made.unsupported.inc(unsupported)

    @contextmanager
    def staged(self, name: str) -> Iterator[None]:
        """A stage of an ingest job (of each batch); one that fails is not counted."""
        began = time.perf_counter()
        yield
        self._made.stages.labels(name).observe(time.perf_counter() - began)

    def hook(self, plugin: str, hook: str, seconds: float, *, failed: bool) -> None:
        """One call of a plugin's hook."""
        self._made.hooks.labels(plugin, hook).observe(seconds)
        if failed:
            self._made.hook_failures.labels(plugin, hook).inc()

    def exposition(self, gauges: Mapping[str, float]) -> bytes:
        """All of it in Prometheus's text format; `gauges` are what is so now, by their names in `metrics_made`."""
        return self._made.exposition(gauges)

    def _answered(self, event: UsageEvent) -> None:
        llm = event.llm
        if event.first_token_ms is not None:
            self._made.first_token.labels(llm).observe(event.first_token_ms / 1000)
        for kind, count in (
            ("prompt", event.prompt_tokens),
            ("completion", event.completion_tokens),
            ("reasoning", event.reasoning_tokens),
        ):
            if count:
                self._made.tokens.labels(llm, kind).inc(count)
