"""What is being done, and as part of what: requests, runs, jobs, their stages, calls of components and hooks.

A step is entered in a context variable, so that whatever happens inside it, in this task or in one that it starts,
belongs to it. It is told to the run's trace and, where an operator has configured one, to a tracer: this module knows
neither. Without either, a step is two looks at a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, Protocol

Kind = Literal["request", "run", "job", "stage", "call", "hook"]
Content = Callable[[], Mapping[str, str]]


class Tracer(Protocol):
    """Takes steps elsewhere, such as over OpenTelemetry's protocol. A span is whatever it makes of a step."""

    content: bool
    """Whether questions and answers may be told."""

    def begin(self, step: Step, parent: Any) -> Any:
        """A span for a step that begins; `parent` is a span, what `extract` gave, or None."""

    def end(self, step: Step) -> None:
        """The step is over: `step.seconds`, `step.failed` and `step.attributes` are final."""

    def extract(self, headers: Mapping[str, str]) -> Any:
        """The span of another server that a request's headers name, or None."""

    def headers(self, span: Any) -> Mapping[str, str]:
        """What tells another server of this span."""


class Step:
    """One thing that is done. `attributes` are ours, by our words; `failed` is the kind of error that ended it."""

    __slots__ = ("attributes", "began", "failed", "kind", "listener", "name", "seconds", "span", "tracer")

    def __init__(
        self,
        kind: Kind,
        name: str,
        attributes: dict[str, Any],
        tracer: Tracer | None = None,
        listener: Callable[[Step], None] | None = None,
        parent: Any = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.attributes = attributes
        self.began = time.perf_counter()
        self.seconds = 0.0
        self.failed = ""
        self.listener = listener
        self.tracer = tracer
        self.span = tracer.begin(self, parent) if tracer is not None else None

    def tell(self, **attributes: Any) -> None:
        """Add what became known meanwhile."""
        self.attributes.update(attributes)

    def content(self, words: Content) -> None:
        """Add what was said, where the operator wants that told; `words` is not even called elsewhere."""
        if self.tracer is not None and self.tracer.content:
            self.attributes.update(words())

    def end(self, failed: str = "") -> None:
        """It is over."""
        self.seconds = time.perf_counter() - self.began
        self.failed = failed or self.failed
        if self.listener is not None:
            self.listener(self)
        if self.tracer is not None:
            self.tracer.end(self)


_CURRENT: ContextVar[Step | None] = ContextVar("step", default=None)


def current() -> Step | None:
    """The innermost step."""
    return _CURRENT.get()


@contextmanager
def inside(step: Step | None) -> Iterator[None]:
    """What begins here belongs to `step`."""
    above = _CURRENT.get()
    _CURRENT.set(step)
    try:
        yield
    finally:
        # No token: an async generator may be left in another task's context than it was entered in.
        _CURRENT.set(above)


@contextmanager
def step(kind: Kind, name: str, /, **attributes: Any) -> Iterator[Step]:
    """A step within the current one. It has failed where it is left by an exception; a cancelled one too."""
    above = _CURRENT.get()
    if above is None:
        made = Step(kind, name, attributes)
    else:
        made = Step(kind, name, attributes, above.tracer, above.listener, above.span)
    _CURRENT.set(made)
    try:
        yield made
    except BaseException as error:
        made.failed = "" if isinstance(error, GeneratorExit) else type(error).__name__
        raise
    finally:
        _CURRENT.set(above)
        made.end()


def root(
    kind: Kind,
    name: str,
    tracer: Tracer | None,
    listener: Callable[[Step], None] | None = None,
    parent: Any = None,
    /,
    **attributes: Any,
) -> Step:
    """A step that begins something of its own, within the current one where there is one. Whoever makes it ends it."""
    above = _CURRENT.get()
    if parent is None and above is not None:
        parent = above.span
    return Step(kind, name, attributes, tracer, listener, parent)


def outgoing() -> Mapping[str, str]:
    """Headers for a request to another server, so that its traces join ours. None without a tracer."""
    now = _CURRENT.get()
    return now.tracer.headers(now.span) if now is not None and now.tracer is not None else {}
