"""What operators watch, for Prometheus: each of these is counted in this process alone, and none says whose.

Labels are few and fixed by the configuration (a model's instance, a hook, a plugin): never an owner, a notebook or a
word of anybody's. docs/operations.md lists them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sourcebook.events import Event, Retrieval, UsageEvent
from sourcebook.steps import Step, step

if TYPE_CHECKING:
    from sourcebook.metrics_made import Made

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one Sourcebook, from `load` on: a server calls it once it is ready.

    Commands and workers, whose counters nobody can read, never pay for the library.
    """

    def __init__(self) -> None:
        self._made: Made | None = None
        self._loading = threading.Lock()

    def load(self) -> Made:
        """Begin to count. Takes some 10 ms the first time, so best done in a thread."""
        with self._loading:
            if self._made is None:
                from sourcebook.metrics_made import Made

                self._made = Made()
            return self._made

    def searched(self, seconds: float, passages: int) -> None:
        """One search, of a question or for its own sake."""
        if self._made is None:
            return
        self._made.retrieval.observe(seconds)
        if not passages:
            self._made.empty.inc()

    def event(self, event: Event) -> None:
        """What an answer tells of itself."""
        if self._made is None:
            return
        if isinstance(event, UsageEvent):
            _answered(self._made, event)
        elif isinstance(event, Retrieval) and event.irrelevant:
            self._made.irrelevant.inc(event.irrelevant)

    def ended(self, outcome: str, seconds: float, unsupported: int) -> None:
        """A run, with how many of its citations do not support their sentence."""
        if self._made is None:
            return
        self._made.runs.labels(outcome).inc()
        self._made.run.observe(seconds)
        if unsupported:
            self._made.unsupported.inc(unsupported)

    @contextmanager
    def staged(self, name: str) -> Iterator[None]:
        """A stage of an ingest job (of each batch); one that fails is not counted."""
        with step("stage", name) as made:
            yield
        if self._made is not None:
            self._made.stages.labels(name).observe(made.seconds)

    def called(self, call: Step, *, failed: bool) -> None:
        """A call of a component, of the kind `call`, has come to its end."""
        if self._made is None:
            return
        of = call.attributes["kind"], call.attributes["instance"], call.attributes["call"]
        self._made.calls.labels(*of).observe(time.perf_counter() - call.began)
        if failed:
            self._made.call_failures.labels(*of).inc()

    def hook(self, plugin: str, hook: str, seconds: float, *, failed: bool) -> None:
        """One call of a plugin's hook."""
        if self._made is None:
            return
        self._made.hooks.labels(plugin, hook).observe(seconds)
        if failed:
            self._made.hook_failures.labels(plugin, hook).inc()

    def reloaded(self, outcome: str) -> None:
        """The configuration was read again: done, unchanged, refused (as it stands) or failed (to open)."""
        if self._made is not None:
            self._made.reloads.labels(outcome).inc()

    def exposition(self, gauges: Mapping[str, float]) -> bytes:
        """All of it in Prometheus's text format; `gauges` are what is so now, by their names in `metrics_made`."""
        return self.load().exposition(gauges)


def _answered(made: Made, event: UsageEvent) -> None:
    llm = event.llm
    if event.first_token_ms is not None:
        made.first_token.labels(llm).observe(event.first_token_ms / 1000)
    for kind, count in (
        ("prompt", event.prompt_tokens),
        ("completion", event.completion_tokens),
        ("reasoning", event.reasoning_tokens),
    ):
        if count:
            made.tokens.labels(llm, kind).inc(count)
