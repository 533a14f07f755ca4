"""JSON schemas in words, as HTML that leads to the schemas which they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from markupsafe import Markup

Schema = Mapping[str, Any]
_BOUNDS = {
    "minimum": "from ",
    "exclusiveMinimum": "over ",
    "maximum": "to ",
    "exclusiveMaximum": "under ",
    "minLength": "characters at least ",
    "maxLength": "characters at most ",
    "minItems": "items at least ",
    "maxItems": "items at most ",
    "pattern": "matches ",
    "default": "default ",
}


@dataclass(frozen=True)
class Row:
    """One field or parameter of a table."""

    name: str
    words: Markup
    required: bool
    description: str
    where: str = ""


def rows_of(schema: Schema) -> list[Row]:
    """The fields of an object."""
    needed = schema.get("required", ())
    fields = schema.get("properties", {}).items()
    return [Row(name, words(one), name in needed, described(one)) for name, one in fields]


def described(schema: Schema) -> str:
    """What a schema, or one of those that it chooses among, says of itself."""
    choices = (*schema.get("anyOf", ()), *schema.get("allOf", ()))
    return str(schema.get("description") or next((c["description"] for c in choices if "description" in c), ""))


def words(schema: Schema) -> Markup:
    """'list of <a>Place</a>, items at most `3`', 'text or null', '`read` or `write`'."""
    said = _kind(schema)
    bounds = [Markup("{}{}").format(how, _code(schema[k])) for k, how in _BOUNDS.items() if schema.get(k) is not None]
    return Markup(", ").join([said, *bounds])


def named(reference: str) -> Markup:
    """A link to a schema, as `$ref` names it."""
    name = reference.rpartition("/")[2]
    return Markup('<a href="#schema-{0}">{0}</a>').format(name)


def _kind(schema: Schema) -> Markup:
    if "$ref" in schema:
        return named(schema["$ref"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return Markup(" or ").join(dict.fromkeys(words(one) for one in schema[key]))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(" or ").join(_code(value) for value in values)
    return Markup(" or ").join(_typed(kind, schema) for kind in _types(schema))


def _types(schema: Schema) -> Iterator[str]:
    kinds = schema.get("type", "any")
    yield from [kinds] if isinstance(kinds, str) else kinds


def _typed(kind: str, schema: Schema) -> Markup:
    if kind == "array":
        return Markup("list of ") + words(schema.get("items", {}))
    if kind == "object" and isinstance(inner := schema.get("additionalProperties"), Mapping) and inner:
        return Markup("object of ") + words(inner)
    form = f" ({schema['format']})" if "format" in schema and kind != "null" else ""
    return Markup("{}{}").format({"string": "text", "any": "any value"}.get(kind, kind), form)


def _code(value: Any) -> Markup:
    return Markup("<code>{}</code>").format(value if isinstance(value, str) else orjson.dumps(value).decode())
