"""How a step is told in OpenTelemetry's words: its span's name and attributes.

The names of the GenAI conventions are not final (open-telemetry/semantic-conventions-genai, 0.1), so all of them stand
here and nowhere else. What has no name there has one that begins with `sourcebook.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sourcebook.steps import Step

OPERATIONS: Mapping[str, str] = {
    "llms.stream": "chat",
    "embedders.embed": "embeddings",
    "retrievers.search": "retrieval",
    "rerankers.rerank": "rerank",
}
"""Kind and method -> `gen_ai.operation.name`."""

_NAMES: Mapping[str, str] = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "owner_id": "sourcebook.owner.id",
    "request_id": "sourcebook.request.id",
    "run_id": "sourcebook.run.id",
    "pipeline": "sourcebook.pipeline",
    "conversation_id": "gen_ai.conversation.id",
    "outcome": "sourcebook.run.outcome",
    "finish": "sourcebook.run.finish",
    "job_id": "sourcebook.job.id",
    "job_kind": "sourcebook.job.kind",
    "source_id": "sourcebook.source.id",
    "attempt": "sourcebook.job.attempt",
    "kind": "sourcebook.component.kind",
    "instance": "sourcebook.component.instance",
    "call": "sourcebook.component.call",
    "plugin": "sourcebook.plugin",
    "hook": "sourcebook.hook",
    "resting": "sourcebook.hook.resting",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "input": "gen_ai.input.messages",
    "output": "gen_ai.output.messages",
}


def span_name(step: Step) -> str:
    """What happens, and with what: `chat qwen3`, `POST /api/v1/chat`, `hook refine_query rewriter`."""
    told = step.attributes
    match step.kind:
        case "request":
            return f"{told['method']} {told.get('route', '')}".strip()
        case "run":
            return f"run {told['pipeline']}"
        case "job":
            return f"job {step.name}"
        case "hook":
            return f"hook {step.name} {told['plugin']}"
        case "call":
            operation = OPERATIONS.get(step.name, step.name)
            return f"{operation} {told.get('model') or told['instance']}"
    return step.name


def attributes(step: Step) -> dict[str, Any]:
    """All that is known of it, under the conventions' names."""
    found = {_NAMES[name]: value for name, value in step.attributes.items() if name in _NAMES and value is not None}
    operation = OPERATIONS.get(step.name) if step.kind == "call" else None
    if operation:
        found["gen_ai.operation.name"] = operation
    if operation == "retrieval":
        found["gen_ai.data_source.id"] = step.attributes["instance"]
    if operation == "chat" and "finish" in step.attributes:
        found["gen_ai.response.finish_reasons"] = [found.pop(_NAMES["finish"])]
    if step.failed:
        found["error.type"] = step.failed
    return found
