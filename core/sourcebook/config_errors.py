"""A configuration's mistakes as errors for people: each with the layer that made it, its key, and what to write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from sourcebook.errors import ConfigError, SourcebookError
from sourcebook.setting_checks import PATTERNS

REMEDY = "Correct these keys; `sourcebook config show` prints every value, and which layer set it."


def config_error(
    error: ValidationError, model: type[BaseModel], origins: Mapping[str, str], prefix: str = ""
) -> ConfigError:
    """One `ConfigError` for all that pydantic found, each with the layer that set it and the nearest known key."""
    found = error.errors(include_url=False)
    issues = [issue(_key(prefix, item["loc"]), origins, _message(item, model, prefix)) for item in found]
    return error_of(issues)


def issue(key: str, origins: Mapping[str, str], message: str) -> dict[str, str]:
    """One mistake, as `details["issues"]` lists it."""
    return {"key": key, "origin": origin_of(key, origins), "message": message}


def error_of(issues: Sequence[Mapping[str, str]]) -> ConfigError:
    """One error for several mistakes."""
    return ConfigError("; ".join(map(line_of, issues)), remedy=REMEDY, issues=list(issues))


def line_of(issue: Mapping[str, str]) -> str:
    """A mistake on a line of its own: where it was made, at which key, what is wrong."""
    return ": ".join(issue[part] for part in ("origin", "key", "message") if issue.get(part))


def in_lines(error: SourcebookError) -> str:
    """What an error says on a terminal: several mistakes have a line each."""
    issues = error.details.get("issues", ())
    if len(issues) < 2:
        return error.detail
    return "\n  ".join([f"{len(issues)} mistakes:", *map(line_of, issues)])


def raise_all(errors: Sequence[SourcebookError]) -> None:
    """Raise one `ConfigError` for several, or the only one as it is; nothing where there is none."""
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    issues = [one for e in errors for one in e.details.get("issues") or [{"message": e.detail}]]
    remedies = dict.fromkeys(e.remedy for e in errors if e.remedy)
    raise ConfigError("; ".join(e.detail for e in errors), remedy=" ".join(remedies), issues=issues)


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """The layer that set `key`, or else what it lies in: an item of a list, a key that is missing."""
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return origins.get(key, "defaults")


def _key(prefix: str, place: Sequence[int | str]) -> str:
    """Of a mistake in a whole instance: the instance; of one in its name: the name."""
    return (prefix + ".".join(str(part) for part in place)).removesuffix(".[key]").rstrip(".")


def _message(item: Any, model: type[BaseModel], prefix: str) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown(str(item["loc"][-1]), _at(model, item["loc"][:-1]), model, prefix)
    if item["type"] in ("int_parsing", "float_parsing") and str(item["input"]).lower() in ("true", "false"):
        return "a number is needed here, and this is true or false"
    return PATTERNS.get(item.get("ctx", {}).get("pattern", ""), item["msg"].removeprefix("Value error, "))


def _unknown(name: str, section: type[BaseModel], model: type[BaseModel], prefix: str) -> str:
    """A key may stand in the wrong section, or above the first one; else it is mistyped."""
    sections = _sections(model, prefix.rstrip("."))
    homes = [f"[{home}]" if home else "the top level" for home, one in sections if name in one.model_fields]
    if homes:
        return f"unknown key; {' and '.join(homes)} {'have' if len(homes) > 1 else 'has'} one of this name"
    close = get_close_matches(name, section.model_fields, 1)
    return "unknown key" + (f"; did you mean {close[0]!r}?" if close else "")


def _sections(model: type[BaseModel], name: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section below a model with its heading, as docs/configuration.md has it."""
    yield name, model
    for key, field in model.model_fields.items():
        for inner, many in _models(field.annotation):
            under = f"{name}.{key}" if name else key
            yield from _sections(inner, f"{under}.NAME" if many else under)


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models that a field holds, and whether it has them by names."""
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind, kind is not annotation and getattr(annotation, "__origin__", None) is dict


def _at(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """The (sub)model at a place."""
    for part in place:
        field = model.model_fields.get(str(part))
        if field is not None:  # else it is an instance's or a pipeline's own name
            model = next((kind for kind, _ in _models(field.annotation)), model)
    return model


def without_booleans(tree: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The same, but `true` where a number belongs is text, which is refused: pydantic would take it for 1."""
    fields = model.model_fields
    return {key: _spelled(value, fields[key].annotation) if key in fields else value for key, value in tree.items()}


def _spelled(value: Any, annotation: Any) -> Any:
    kinds = {annotation, *getattr(annotation, "__args__", ())}
    numbers = kinds & {int, float}
    if isinstance(value, bool):
        return str(value).lower() if numbers and bool not in kinds else value
    if isinstance(value, list) and numbers:
        return [_spelled(one, next(iter(numbers))) for one in value]
    if not isinstance(value, dict):
        return value
    if is_dataclass(annotation):
        hints = get_type_hints(annotation)
        return {k: _spelled(v, hints.get(k)) for k, v in value.items()}
    for inner, many in _models(annotation):
        if not many:
            return without_booleans(value, inner)
        return {k: without_booleans(v, inner) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: _spelled(v, next(iter(numbers))) for k, v in value.items()} if numbers else value
