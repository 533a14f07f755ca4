"""Calls of components, each a step that is counted: by kind, instance and method, with its seconds and failures.

A component that `watched` has seen tells of itself, whoever calls it. What gives its result piece by piece is not
wrapped, since every piece would pay for it: of those only a model's answer is watched, by `called`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from sourcebook.events import Delta, Finish, Text, Usage
from sourcebook.interfaces import LLM, Component, LLMRequest
from sourcebook.metrics import Metrics
from sourcebook.steps import Step, step

METHODS: Mapping[str, tuple[str, ...]] = {
    "embedders": ("embed",),
    "retrievers": ("search", "vectors", "ensure", "upsert", "set_fields", "delete", "count", "flush"),
    "rerankers": ("rerank",),
    "fetchers": ("fetch",),
    "blob_stores": ("put", "read", "size", "delete"),
}
"""What is watched of each kind; a class need not have all of it. `local` of a blob store is a context, no call."""


def watched(component: Component[Any], kind: str, metrics: Metrics) -> None:
    """From now on every call of its methods is counted. Its own class stays as it is."""
    for name in METHODS.get(kind, ()):
        method = getattr(component, name, None)
        if method is not None:
            setattr(component, name, _wrapped(method, component, kind, name, metrics))


@contextmanager
def call(kind: str, instance: str, method: str, metrics: Metrics, **more: Any) -> Iterator[Step]:
    """One call, of whatever is done in this context. `more` is what the step tells beside that."""
    failed = False
    with step("call", f"{kind}.{method}", kind=kind, instance=instance, call=method, **more) as made:
        try:
            yield made
        except Exception:
            failed = True
            raise
        finally:
            metrics.called(made, failed=failed)


async def called(llm: LLM[Any], request: LLMRequest, metrics: Metrics) -> AsyncGenerator[Delta, None]:
    """A model's answer. A plugin may return any async iterator; this one can be closed, and closes it too."""
    with call("llms", llm.instance, "stream", metrics, provider=llm.name, model=model_of(llm)) as made:
        made.content(lambda: {"input": _messages(request)})
        deltas = llm.stream(request)
        said: list[str] = []
        keep = made.tracer is not None and made.tracer.content
        try:
            async for delta in deltas:
                if isinstance(delta, Usage):
                    made.tell(prompt_tokens=delta.prompt, completion_tokens=delta.completion)
                elif isinstance(delta, Finish):
                    made.tell(finish=delta.reason)
                elif keep and isinstance(delta, Text):
                    said.append(delta.text)
                yield delta
        finally:
            made.content(lambda: {"output": "".join(said)})
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()


def model_of(component: Component[Any]) -> str:
    """The model that a component's settings name, else the instance's own name."""
    return str(getattr(component.settings, "model", "") or component.instance)


def _messages(request: LLMRequest) -> str:
    return orjson.dumps([{"role": m.role, "content": m.content} for m in request.messages]).decode()


def _wrapped(
    method: Callable[..., Awaitable[Any]], component: Component[Any], kind: str, name: str, metrics: Metrics
) -> Callable[..., Awaitable[Any]]:
    instance = component.instance
    more = {"provider": component.name, "model": model_of(component)} if kind in ("embedders", "rerankers") else {}

    @functools.wraps(method)
    async def watched_call(*args: Any, **kwargs: Any) -> Any:
        with call(kind, instance, name, metrics, **more):
            return await method(*args, **kwargs)

    return watched_call
