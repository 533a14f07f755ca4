"""Layered files and the environment -> one validated `Settings`, and where each value came from.

Later wins: the packaged `defaults.toml`, `sourcebook.toml`, `secrets.toml` beside it, `SOURCEBOOK_A__B=...`, and
`SOURCEBOOK_A__B_FILE=/path` for container secrets. Dynaconf merges the layers; pydantic types them, because dynaconf
guesses types from strings (a numeric API key would become a number).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
from pydantic import SecretStr, ValidationError

from sourcebook.config_errors import config_error, error_of, issue, raise_all, without_booleans
from sourcebook.errors import ConfigError
from sourcebook.settings import Settings

MASK = "********"
# What is a secret by its name, wherever it was written.
_SECRET = re.compile(
    r"(?:^|[._-])(?:key|access_key_id|apikey|token|secret|passw(?:or)?d|credentials?|authorization)$|\.headers\.",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^/@\s]+@")


@dataclass(frozen=True)
class Layers:
    """Where a configuration is read from: what `load` was given."""

    path: Path | None = None
    environ: Mapping[str, str] | None = None
    overrides: Mapping[str, Any] | None = None


class Configuration:
    """The settings with where each came from: `origins["llms.fast.model"] == "sourcebook.toml"`."""

    def __init__(
        self,
        settings: Settings,
        origins: Mapping[str, str],
        files: list[Path],
        secrets: set[str],
        layers: Layers | None = None,
    ) -> None:
        self.settings = settings
        self.origins = origins
        self.files = files
        self.secrets = secrets
        self._layers = layers or Layers()

    def again(self) -> tuple[Configuration, list[ConfigError]]:
        """The same layers, read anew: as `read`."""
        return read(self._layers)

    def under(self, overrides: Mapping[str, Any]) -> Configuration:
        """The same layers below these options. Raises as `load` does."""
        below = self._layers
        return load(below.path, below.environ, _over(below.overrides or {}, overrides))

    def shown(self) -> dict[str, Any]:
        """Every value, with what came from a secret layer or is a secret by its name masked, whatever its type."""
        shown: dict[str, Any] = _masked(self.settings.model_dump(mode="json"), "", self.secrets)
        return shown

    def secret_values(self) -> set[str]:
        """Every text that `shown` would mask, and the passwords in addresses: so that nothing else tells them."""
        return set(_secret_values(self.settings.model_dump(), "", self.secrets))


def load(
    path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Configuration:
    """Read all layers. A named file that is missing, an unknown key or a wrong type is a `ConfigError` with its place.

    `path` is the `--config` option; else `SOURCEBOOK_CONFIG`, else `./sourcebook.toml` if there is one. `overrides`
    is a nested mapping that wins over everything (command line options, tests).
    """
    configuration, wrong = read(Layers(path, environ, overrides))
    raise_all(wrong)
    return configuration


def read(layers: Layers) -> tuple[Configuration, list[ConfigError]]:
    """What stands in the layers, and every mistake in it; keys that are wrong are left at their defaults.

    Raises `ConfigError` where a file cannot be read at all.
    """
    environ = os.environ if layers.environ is None else layers.environ
    main = _main_file(layers.path, environ)
    reader = _reader()
    found: list[tuple[str, dict[str, Any], bool]] = [("defaults", reader(_packaged()), False)]
    used: list[Path] = []
    if main is not None:
        for file, secret in ((main, False), (main.with_name("secrets.toml"), True)):
            if file.is_file():
                found.append((str(file), reader(file), secret))
                used.append(file)
    variables, wrong = _environment(environ)
    found.extend(variables)
    if layers.overrides:
        found.append(("options", _lower(dict(layers.overrides)), False))
    merged, origins, secrets = _merge(found)
    settings = _validate(merged, origins, wrong)
    return Configuration(settings, origins, used, secrets, layers), wrong


def _packaged() -> Path:
    return Path(str(files("sourcebook") / "defaults.toml"))


def _main_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ["SOURCEBOOK_CONFIG"]) if environ.get("SOURCEBOOK_CONFIG") else None)
    if named is None:
        return Path("sourcebook.toml").resolve() if Path("sourcebook.toml").is_file() else None
    if not named.is_file():
        raise ConfigError(f"There is no configuration file {named}.", remedy="Check --config or SOURCEBOOK_CONFIG.")
    return named.resolve()


def _reader() -> Callable[[Path], dict[str, Any]]:
    """Reads TOML files through dynaconf's loader, which gives each as it stands.

    Dynaconf's settings would also cast `@int`, render `@jinja`, load `sourcebook.local.toml` and run
    `dynaconf_hooks.py` from the same folder.
    """
    from dynaconf import LazySettings
    from dynaconf.loaders.base import BaseLoader

    loader = BaseLoader(
        obj=LazySettings(settings_files=[], loaders=[], core_loaders=[]),
        env="default",
        identifier="toml",
        extensions=("",),  # whatever it is called
        file_reader=tomllib.load,
        string_reader=tomllib.loads,
        opener_params={"mode": "rb"},
    )

    def read(file: Path) -> dict[str, Any]:
        try:
            file.open("rb").close()  # dynaconf would only warn of a file that it may not read
            return _lower(loader.get_source_data([str(file)]).get(str(file), {}))
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: this is not valid TOML: {error}", remedy="Mend the line it names.") from error

    return read


def _lower(value: dict[str, Any], depth: int = 2) -> dict[str, Any]:
    """Names of sections, of instances and of their keys are case-insensitive; what is deeper is left alone."""
    return {k.lower(): _lower(v, depth - 1) if depth and isinstance(v, dict) else v for k, v in value.items()}


def _environment(environ: Mapping[str, str]) -> tuple[list[tuple[str, dict[str, Any], bool]], list[ConfigError]]:
    """A layer a variable; also those that name a file which cannot be read."""
    layers, wrong = [], []
    for name, raw in sorted(environ.items()):
        if not name.startswith("SOURCEBOOK_") or "__" not in name:
            continue
        path, secret, value = name.removeprefix("SOURCEBOOK_").lower().split("__"), False, raw
        if path[-1].endswith("_file") and path[-1] != "_file":
            path[-1], secret = path[-1].removesuffix("_file"), True
            try:
                value = Path(raw).read_text(encoding="utf-8").strip()
            except OSError as error:
                message = f"{name} names {raw}, which cannot be read: {error.strerror}."
                place = {"key": ".".join(path), "origin": f"{name} (environment)", "message": message}
                wrong.append(ConfigError(message, issues=[place]))
                continue
        tree: Any = _typed(value)
        for part in reversed(path):
            tree = {part: tree}
        layers.append((f"{name} (environment)", tree, secret))
    return layers, wrong


def _typed(raw: str) -> Any:
    """JSON for lists and tables; everything else stays text for pydantic to type."""
    if raw[:1] in "[{":
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
    return raw


def _merge(layers: list[tuple[str, dict[str, Any], bool]]) -> tuple[dict[str, Any], dict[str, str], set[str]]:
    """Tables merge key by key, the rest is replaced. Also which layer set each key, and which keys are secret."""
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    secrets: set[str] = set()

    def put(target: dict[str, Any], source: Mapping[str, Any], prefix: str, origin: str, secret: bool) -> None:
        for key, value in source.items():
            path = f"{prefix}{key}"
            if isinstance(value, dict):
                if not isinstance(target.get(key), dict):
                    target[key] = {}
                put(target[key], value, path + ".", origin, secret)
                origins.setdefault(path, origin)
                continue
            target[key] = value
            origins[path] = origin
            (secrets.add if secret else secrets.discard)(path)

    for origin, tree, secret in layers:
        put(merged, tree, "", origin, secret)
    return merged, origins, secrets


def _validate(merged: dict[str, Any], origins: Mapping[str, str], wrong: list[ConfigError]) -> Settings:
    """The settings; what is wrong is added to `wrong`, and left out."""
    for pipeline in _tables(merged.get("pipelines")).values():
        for key in ("llm", "retrievers"):
            if isinstance(pipeline.get(key), str):
                pipeline[key] = [pipeline[key]]
    wrong += resolve_extends(merged, origins)
    merged = without_booleans(merged, Settings)
    while True:
        try:
            return Settings.model_validate(merged)
        except ValidationError as error:
            wrong.append(config_error(error, Settings, origins))
            for item in error.errors():
                _drop(merged, item["loc"])


def _tables(value: Any) -> dict[str, dict[str, Any]]:
    """Those of a table's values that are tables."""
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


def _drop(tree: dict[str, Any], place: Sequence[int | str]) -> None:
    """Leave out what stands at `place`: the whole list where it is an item, the table where a key is missing."""
    first, *rest = place
    under = tree.get(str(first))
    if isinstance(under, dict) and rest and str(rest[0]) in under:
        _drop(under, rest)
    else:
        tree.pop(str(first), None)


def resolve_extends(merged: dict[str, Any], origins: Mapping[str, str]) -> list[ConfigError]:
    """`extends = "default"` in a pipeline: its keys over the other's, tables key by key.

    What is wrong with them: a loop, or a name that there is not.
    """
    pipelines = _tables(merged.get("pipelines"))
    wrong: list[ConfigError] = []

    def resolved(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        own = dict(pipelines[name])
        base = own.pop("extends", None)
        if not base:
            return own
        if base in (*seen, name):
            raise _extends(name, f"extends itself by way of {' -> '.join((*seen, name))}.", origins)
        if str(base) not in merged["pipelines"]:
            raise _extends(name, f"there is no pipeline {base!r}.", origins)
        return _over(resolved(str(base), (*seen, name)), own) if str(base) in pipelines else own

    for name, pipeline in pipelines.items():
        try:
            merged["pipelines"][name] = resolved(name, ())
        except ConfigError as error:
            wrong.append(error)
            merged["pipelines"][name] = {k: v for k, v in pipeline.items() if k != "extends"}
    return list({e.detail: e for e in wrong}.values())


def _extends(name: str, message: str, origins: Mapping[str, str]) -> ConfigError:
    return error_of([issue(f"pipelines.{name}.extends", origins, message)])


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _secret_values(value: Any, path: str, secrets: set[str]) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else ((None, inner) for inner in value)
        for key, inner in items:
            under = path if key is None else f"{path}.{key}" if path else str(key)
            yield from _secret_values(inner, under, secrets)
    elif isinstance(value, str) and value:
        if path in secrets or _SECRET.search(path):
            yield value
            yield value.partition(" ")[2] or value  # `Bearer ...`
        for password in (match[0].rpartition(":")[2][:-1] for match in _PASSWORD.finditer(value)):
            yield password
            yield unquote(password)


def _masked(value: Any, path: str, secrets: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _masked(v, f"{path}.{k}" if path else str(k), secrets) for k, v in value.items()}
    if value not in ("", None) and (path in secrets or _SECRET.search(path)):
        return MASK
    # A database's URL may carry its password.
    return _PASSWORD.sub(rf"\1{MASK}@", value) if isinstance(value, str) else value
