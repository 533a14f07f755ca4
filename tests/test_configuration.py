"""docs/configuration.md and the files in config/ say what the code does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from sourcebook.configuration import MASK, load
from sourcebook.deadlines import Timeouts
from sourcebook.http import Http
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import Plugins
from sourcebook.settings import KINDS, Pipeline, PluginSettings, Settings

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_DEFAULT_LINE = re.compile(r"^#(?=[a-z_]+ = |\[)", re.MULTILINE)

# Model -> the heading of its table; the instance tables stand apart from the other keys of Settings.
HEADINGS = {
    "Settings": "Top level",
    "Storage": "[storage]",
    "Server": "[server]",
    "Limits": "[limits]",
    "PluginSettings": "[plugins]",
    "Pipeline": "[pipelines.NAME]",
    "Search": "[pipelines.NAME.search]",
    "Prompts": "[pipelines.NAME.prompts]",
    "Jobs": "[jobs]",
    "Jail": "[jail]",
    "Runs": "[runs]",
    "Cache": "[cache]",
    "Links": "[links]",
    "Logging": "[logging]",
    "Tracing": "[tracing]",
}


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """Key -> default and meaning, of the table below a heading."""
    found = DOCUMENT.partition(f"\n### {heading}\n")[2]
    assert found, f"docs/configuration.md has no section {heading!r}"
    table = re.split(r"\n##", found)[0]
    return {key: (default.strip(), meaning.strip()) for key, _, default, meaning in _ROW.findall(table)}


def shown(value: Any) -> str:
    """A default as the document writes it: TOML, or a word where TOML has none."""
    if value is PydanticUndefined or value is MISSING:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, Path | str):
        return f'`"{value}"`'
    if isinstance(value, bool | int | float):
        return f"`{str(value).lower()}`"
    if value == {}:
        return "`{}`"
    return f"`{orjson.dumps(value).decode().replace(',', ', ')}`"


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and all that lie in it."""
    yield model
    for field in model.model_fields.values():
        default = field.get_default(call_default_factory=True)
        for value in default.values() if isinstance(default, dict) else (default,):
            if isinstance(value, BaseModel):
                yield from models(type(value))


def plain_defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The defaults of the keys that are no sections of their own."""
    found = {n: f.get_default(call_default_factory=True) for n, f in model.model_fields.items()}
    return {
        n: v
        for n, v in found.items()
        if not isinstance(v, BaseModel | Timeouts) and n not in KINDS and n not in ("pipelines", "filters")
    }


@pytest.mark.parametrize("model", list(models(Settings)), ids=lambda m: m.__name__)
def test_every_key_is_documented_with_its_default_and_its_meaning(model: type[BaseModel]) -> None:
    documented = rows(HEADINGS[model.__name__])
    for name, value in plain_defaults(model).items():
        assert name in documented, f"{HEADINGS[model.__name__]} lacks {name}"
        default, meaning = documented[name]
        assert default == shown(value), name
        assert meaning, name
    known = set(model.model_fields) | ({"extends"} if model is Pipeline else set())
    assert set(documented) <= known, "the document names keys that do not exist"


def test_every_section_has_a_heading_and_every_kind_a_row() -> None:
    assert {m.__name__ for m in models(Settings)} == set(HEADINGS)
    assert set(rows("Instances of each kind")) == set(KINDS)
    assert "\n### [filters]\n" in DOCUMENT
    assert set(Settings.model_fields) == {"hook_deadline", "pipelines", "filters", *KINDS} | {
        h.strip("[]") for h in HEADINGS.values() if h.startswith("[") and "." not in h
    }


def _built_in() -> list[tuple[str, type[Any]]]:
    plugins = Plugins(PluginSettings())
    plugins.load(p for p in _points() if p.dist and p.dist.name == "sourcebook")
    return [(f"{kind}.{name}", cls) for kind in KINDS for name, cls in plugins.classes[kind].items()]


def _points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group="sourcebook")


@pytest.mark.parametrize(("heading", "cls"), _built_in(), ids=lambda v: v if isinstance(v, str) else "")
def test_every_setting_of_a_built_in_class_is_documented(heading: str, cls: type[Any]) -> None:
    fields_of: Mapping[str, Any] = cls.Settings.model_fields
    if not fields_of:
        assert f"`{heading.partition('.')[2]}`" in DOCUMENT
        return
    documented = rows(heading)
    assert set(documented) == set(fields_of)
    for name, value in plain_defaults(cls.Settings).items():
        assert documented[name][0] == shown(value), f"{heading}.{name}"


def test_the_timeouts_are_documented() -> None:
    assert {n: d for n, (d, _) in rows("timeouts").items()} == {f.name: shown(f.default) for f in fields(Timeouts)}


def test_the_annotated_file_changes_nothing() -> None:
    assert load(ROOT / "config" / "sourcebook.toml", {}).settings == load(None, {}).settings


def test_the_annotated_files_lines_are_the_defaults_and_none_is_missing(tmp_path: Path) -> None:
    text = _DEFAULT_LINE.sub("", (ROOT / "config" / "sourcebook.toml").read_text(encoding="utf-8"))
    (tmp_path / "sourcebook.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "sourcebook.toml", {}).settings == Settings() == load(None, {}).settings
    tree = tomllib.loads(text)
    for model in models(Settings):
        table = tree
        for part in HEADINGS[model.__name__].strip("[]").split(".") if model is not Settings else ():
            table = table["default" if part == "NAME" else part]
        wanted = {n for n, v in plain_defaults(model).items() if v is not None}
        if model is Pipeline:
            wanted.discard("parsers")  # an empty table of its own
            assert table["parsers"] == {}
        assert wanted <= set(table), HEADINGS[model.__name__]


@pytest.mark.parametrize("file", ["sourcebook.toml", "production.toml"])
def test_every_instance_of_a_shipped_file_is_valid(file: str, tmp_path: Path) -> None:
    configuration = load(ROOT / "config" / file, {})
    plugins = Plugins(PluginSettings())
    plugins.load()
    Pipelines(plugins, configuration, tmp_path, Http()).check()


def test_the_production_file_is_for_others() -> None:
    settings = load(ROOT / "config" / "production.toml", {}).settings
    pipeline = settings.pipelines["default"]
    assert settings.server.host == "0.0.0.0"
    assert settings.server.allowed_hosts
    assert settings.llms[pipeline.llm[0]]["use"] == "openai"
    assert pipeline.embedder in settings.embedders
    assert pipeline.reranker in settings.rerankers


def test_the_example_of_secrets_fits_the_production_file_and_is_masked(tmp_path: Path) -> None:
    for source, target in (("production.toml", "sourcebook.toml"), ("secrets.example.toml", "secrets.toml")):
        (tmp_path / target).write_bytes((ROOT / "config" / source).read_bytes())
    configuration = load(tmp_path / "sourcebook.toml", {})
    plugins = Plugins(PluginSettings())
    plugins.load()
    for kind, instance in (("llms", "answers"), ("embedders", "passages"), ("rerankers", "judge")):
        table = dict(getattr(configuration.settings, kind)[instance])
        settings = plugins.component(kind, table.pop("use")).Settings.model_validate(table)
        assert isinstance(settings.api_key, SecretStr)
        assert configuration.shown()[kind][instance]["api_key"] == MASK


def test_later_layers_win_in_the_documented_order(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[server]\nport = 1\nhost = 'file'\nmax_body = 1\n[jobs]\nworkers = 1\n")
    (tmp_path / "secrets.toml").write_text("[server]\nhost = 'secret'\nport = 2\nmax_body = 2\n")
    (tmp_path / "mounted").write_text(" 4 \n")
    environ = {"SOURCEBOOK_SERVER__PORT": "3", "SOURCEBOOK_SERVER__MAX_BODY_FILE": str(tmp_path / "mounted")}
    configuration = load(tmp_path / "a.toml", environ, {"server": {"port": 5}})
    server = configuration.settings.server
    assert (server.host, server.port, server.max_body) == ("secret", 5, 4)
    assert configuration.settings.jobs.workers == 1
    assert configuration.shown()["server"]["max_body"] == MASK
    assert configuration.shown()["server"]["host"] == MASK


def test_the_examples_of_the_document_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) >= 2
    (tmp_path / "all.toml").write_text("\n".join(blocks))
    settings = load(tmp_path / "all.toml", {}).settings
    assert settings.pipelines["careful"].llm == ("fast", "cloud")
    assert settings.pipelines["careful"].search.limit == 12
