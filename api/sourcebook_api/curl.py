"""One operation of an OpenAPI document as a call in a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

_UPLOADED = {"multipart/form-data": "-F file=@handbook.pdf", "application/octet-stream": "--data-binary @handbook.pdf"}


def curl(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """The call of `$SERVER` with `$KEY`; parameters of the path, and those that are required, are variables too."""
    asked = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one.get("required")]
    url = re.sub(r"\{(\w+)\}", lambda found: f"${{{found[1].upper()}}}", path)
    url += "?" * bool(asked) + "&".join(f"{name}=${{{name.upper()}}}" for name in asked)
    lines = [f'curl{"" if method == "GET" else f" -X {method}"} "$SERVER{url}"']
    if operation.get("x-permission"):
        lines.append('-H "Authorization: Bearer $KEY"')
    if any("text/event-stream" in response.get("content", ()) for response in operation["responses"].values()):
        lines.append("-N")
    return " \\\n  ".join([*lines, *_body(operation.get("requestBody", {}).get("content", {}))])


def _body(contents: Mapping[str, Any]) -> Iterator[str]:
    """A file, or the first example."""
    for kind, content in contents.items():
        if kind in _UPLOADED:
            yield _UPLOADED[kind]
        else:
            example: Any = next((one["value"] for one in content.get("examples", {}).values()), {})
            yield f"-H 'Content-Type: {kind}'"
            yield f"-d {shlex.quote(orjson.dumps(example).decode())}"
        return
