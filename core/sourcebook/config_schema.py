"""The configuration's JSON schema, with the settings of every component that is installed.

An editor that knows it completes keys and marks mistakes as they are typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sourcebook.settings import KINDS, Settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema(classes: Mapping[str, Mapping[str, type]]) -> dict[str, Any]:
    """The schema of `sourcebook.toml`. `classes`: kind -> name -> class, as `Plugins.classes` has them.

    An instance whose name is its class's needs no `use`; any other names one of the classes.
    """
    schema = Settings.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for kind in KINDS:
        known = classes.get(kind, {})
        for name, cls in known.items():
            definitions[f"{kind}.{name}"] = _settings_of(cls, f"{kind}.{name}", definitions)
        table = schema["properties"][kind]
        # Pydantic puts what a name looks like before what it holds; here some names hold what others may not.
        table["propertyNames"] = {"pattern": next(iter(table.pop("patternProperties")))}
        table["properties"] = {name: _instance(kind, name, named=False) for name in known}
        table["additionalProperties"] = {"anyOf": [_instance(kind, name, named=True) for name in known]}
    return {"$schema": _DIALECT, **schema, "title": "Sourcebook's configuration"}


def _settings_of(cls: Any, key: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A class's own settings, open: what is unknown is refused where `use` is known too."""
    own: dict[str, Any] = cls.Settings.model_json_schema(ref_template=f"#/$defs/{key}.{{model}}")
    definitions.update({f"{key}.{name}": inner for name, inner in own.pop("$defs", {}).items()})
    own.pop("additionalProperties", None)
    return own


def _instance(kind: str, name: str, *, named: bool) -> dict[str, Any]:
    """A table with the settings of one class, and `use`."""
    instance: dict[str, Any] = {
        "$ref": f"#/$defs/{kind}.{name}",
        "properties": {"use": {"const": name, "description": "The class of this instance."}},
        "unevaluatedProperties": False,
    }
    if named:
        instance["required"] = ["use"]
    return instance
