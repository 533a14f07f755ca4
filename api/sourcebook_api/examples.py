"""Examples of answers for the OpenAPI document, made from the schemas: a field that gets a new model has one at once.

A value is chosen by the field's name, and where the name says nothing by its type. A test holds every example against
its schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TIME = "2026-11-25T09:30:00Z"
_QUOTE = "The harbour closes at ten in the evening."
_TAIL = "01k8v3q4zt6w9x2y5b7c8d9e0f"
_PREFIXES = {
    "notebook": "nb", "source": "src", "document": "doc", "generation": "gen", "job": "job", "conversation": "conv",
    "message": "msg", "run": "run", "citation": "cit", "note": "note", "key": "key", "owner": "own", "parent": "src",
}  # fmt: skip
_PLACE = {"page": 3, "box": [72.0, 431.5, 420.2, 446.0]}
_BY_NAME: dict[str, Any] = {
    "passage_id": "8a0a7b1e-4a55-5c7f-9d43-3d2f5e6c7b10",
    "title": "Tolvane harbour handbook",
    "name": "handbook.pdf",
    "description": "Opening hours, tides and signals.",
    "pipeline": "default",
    "metadata": {"year": 2026},
    "tags": ["harbour"],
    "media_type": "application/pdf",
    "url": None,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size": 48213,
    "version": 1,
    "text": _QUOTE,
    "quote": _QUOTE,
    "context": "Harbour > Opening hours",
    "question": "When does the harbour close?",
    "queries": ["When does the harbour close?"],
    "reasoning": "",
    "answer_start": 0,
    "answer_end": 41,
    "start": 1204,
    "end": 1245,
    "length": 18204,
    "ordinal": 7,
    "n": 1,
    "passages": 42,
    "score": 0.94,
    "scores": {"lexical": 11.3},
    "took_ms": 12.4,
    "state": "ready",
    "status": "ok",
    "finish": "stop",
    "message_state": "complete",
    "role": "assistant",
    "supported": True,
    "kind": "ingest",
    "attempt": 1,
    "progress": {"stage": "indexing", "done": 42, "total": 42},
    "place": _PLACE,
    "places": [_PLACE],
    "code": "malformed",
    "detail": "The file is damaged.",
    "owner": "ada",
    "permission": "read",
    "permissions": ["read", "write"],
    "secret": "sbk_" + "x" * 43 + "9k2m4q",
    "requests": 600,
    "concurrent": 8,
    "notebooks": ["nb_" + _TAIL],
    "sources": ["src_" + _TAIL],
    "distribution": "sourcebook",
    "hooks": ["register_parsers"],
    "components": {"parsers": ["pdf"]},
    "parts": {"database": "ok", "index": "ok"},
    "settings": {"server": {"host": "127.0.0.1", "port": 8000}},
    "origins": {"server.port": "defaults"},
    "files": ["/etc/sourcebook/sourcebook.toml"],
    "api": "/api/v1",
    "documentation": "/docs",
    "openapi": "/openapi.json",
    "reason": "",
    "created": True,
    "last_seq": 57,
    "dropped_citations": 0,
    "next_cursor": None,
    "problem": None,
    "expires_at": None,
    "revoked_at": None,
    "removed_at": None,
    "deleted_at": None,
}
_STREAM = {
    "events": "id: run_01k8v3q4zt6w9x2y5b7c8d9e0f:4\nevent: content\n"
    'data: {"type":"content","seq":4,"run_id":"run_01k8v3q4zt6w9x2y5b7c8d9e0f","delta":"The harbour closes at ten"}\n\n'
}


class Examples:
    """Makes examples for the schemas of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = document["components"]["schemas"]

    def add_to(self, operation: Mapping[str, Any]) -> None:
        """Give every answer that is a success its example, where it has none."""
        for status, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                if not status.startswith("2") or "example" in content or "examples" in content:
                    continue
                if kind == "application/json":
                    content["example"] = self.of(content.get("schema", {}))
                elif kind == "text/event-stream":
                    content["example"] = _STREAM["events"]

    def of(self, schema: Mapping[str, Any], name: str = "", owner: str = "") -> Any:
        """A value that fits `schema`, as the field `name` of the model `owner`."""
        if "$ref" in schema:
            target = str(schema["$ref"]).rpartition("/")[2]
            return self.of(self._schemas[target], name, target)
        if "example" in schema or "examples" in schema:
            return schema.get("example", (schema.get("examples") or [None])[0])
        if "const" in schema or "enum" in schema:
            return schema.get("const", (schema.get("enum") or [None])[0])
        if (options := schema.get("anyOf") or schema.get("oneOf")) is not None:
            return self._either(options, name, owner)
        if "properties" in schema:
            return {field: self.of(inner, field, owner) for field, inner in schema["properties"].items()}
        return self._plain(schema, name, owner)

    def _either(self, options: Any, name: str, owner: str) -> Any:
        nullable = any(option.get("type") == "null" for option in options)
        if nullable and name in _BY_NAME and _BY_NAME[name] is None:
            return None
        return self.of(next(o for o in options if o.get("type") != "null"), name, owner)

    def _plain(self, schema: Mapping[str, Any], name: str, owner: str) -> Any:
        known = _id(name, owner) if name == "id" or name.endswith("_id") else _BY_NAME.get(name)
        if name in _BY_NAME and known is None:
            known = _BY_NAME[name]
        if known is not None and _fits(known, schema):
            return known
        match schema.get("type"):
            case "string":
                return _TIME if schema.get("format") == "date-time" else (name or "text")
            case "integer":
                return int(schema.get("minimum", 0))
            case "number":
                return float(schema.get("minimum", 0))
            case "boolean":
                return False
            case "array":
                return [self.of(schema["items"], name.removesuffix("s"), owner)] if "items" in schema else []
            case _:
                return {}


def _id(name: str, owner: str) -> str:
    if name in _BY_NAME:
        return str(_BY_NAME[name])
    what = name.removesuffix("_id") if name != "id" else owner.removeprefix("Whole").removesuffix("Shown").lower()
    return f"{_PREFIXES.get(what, what or 'id')}_{_TAIL}"


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
    kind = kinds.get(str(schema.get("type")), object)
    if isinstance(value, list) and "$ref" in schema.get("items", {}):
        return False
    return isinstance(value, kind) and not (isinstance(value, bool) and schema.get("type") != "boolean")  # type: ignore[arg-type]
