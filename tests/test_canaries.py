"""A canary in every field of the configuration that is a secret: it is shown, logged and told nowhere."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from pydantic import BaseModel, SecretStr
from typer.testing import CliRunner

from sourcebook.backup import write_backup
from sourcebook.configuration import load
from sourcebook.errors import SourcebookError
from sourcebook.hookspecs import hookimpl
from sourcebook.http import Http
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import Plugins
from sourcebook.settings import KINDS, PluginSettings, Settings
from sourcebook.testing.llm_server import FakeLLMServer, Reply, json_reply, stream_of
from sourcebook_api.cli import cli
from tests.api.support import Served, events
from tests.logged import logged

CANARY = "canary-51f0a7"


def components() -> Iterator[tuple[str, str, type[Any]]]:
    plugins = Plugins(PluginSettings())
    plugins.load(p for p in entry_points(group="sourcebook") if p.dist and p.dist.name == "sourcebook")
    for kind in KINDS:
        for name, cls in plugins.classes[kind].items():
            yield kind, name, cls


def secrets_of(model: type[BaseModel]) -> list[str]:
    """Fields that hold a secret, alone or in a table."""
    return [n for n, f in model.model_fields.items() if SecretStr in _types(f.annotation)]


def _types(annotation: Any) -> set[Any]:
    return {annotation} | {t for part in get_args(annotation) for t in _types(part)}


def value_for(model: type[BaseModel], field: str) -> Any:
    kinds = {getattr(t, "__origin__", t) for t in _types(model.model_fields[field].annotation)}
    if field == "url":  # the secret is in it
        return f"postgresql://user:{CANARY}@127.0.0.1:9/name"
    return {"X-Token": CANARY} if dict in kinds else CANARY


def filled(model: type[BaseModel], field: str) -> dict[str, Any]:
    """Valid settings with the canary in one field, and in those without which that one is nothing."""
    values: dict[str, Any] = {field: value_for(model, field)}
    if "access_key" in field:
        values |= dict.fromkeys(("access_key_id", "secret_access_key"), CANARY)
    for name, info in model.model_fields.items():
        if info.is_required() and name not in values:
            values[name] = "http://127.0.0.1:9/v1" if "url" in name else "some"
    return values


FIELDS = [(kind, name, cls, field) for kind, name, cls in components() for field in secrets_of(cls.Settings)]


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for table, values in tables.items():
        lines.append(f"[{table}]")
        for name, value in values.items():
            shown = ", ".join(f'"{k}" = "{v}"' for k, v in value.items()) if isinstance(value, dict) else ""
            lines.append(
                f"{name} = {{{shown}}}" if isinstance(value, dict) else f"{name} = {orjson.dumps(value).decode()}"
            )
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    for name, info in model.model_fields.items():
        for kind in _types(info.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _fields(kind, f"{path}{name}.")
        yield path + name, model, name


def test_every_secret_that_is_no_components_is_in_the_server_below() -> None:
    """A new one has to be added there. Those by their name, or in an address, are masked wherever they stand."""
    assert {path for path, model, name in _fields(Settings) if name in secrets_of(model)} == {"tracing.headers"}


def test_there_are_fields_to_try() -> None:
    assert {(kind, field) for kind, _, _, field in FIELDS} >= {
        ("llms", "api_key"),
        ("llms", "headers"),
        ("embedders", "api_key"),
        ("rerankers", "api_key"),
    }


@pytest.mark.parametrize("file", ["sourcebook.toml", "secrets.toml"])
@pytest.mark.parametrize(("kind", "name", "cls", "field"), FIELDS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.slow
def test_no_secret_of_a_component_comes_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, name: str, cls: type[Any], field: str, file: str
) -> None:
    instance = {"use": name, **filled(cls.Settings, field)}
    main = tmp_path / "sourcebook.toml"
    main.write_text("")
    (tmp_path / file).write_text(toml({f"{kind}.mine": instance}))
    logging_at = {"logging": {"level": "debug", "format": "json" if file == "secrets.toml" else "console"}}
    with caplog.at_level(logging.DEBUG), logged(load(main, {}, logging_at)) as log:
        configuration = load(main, {})
        settings = cls.Settings.model_validate({k: v for k, v in instance.items() if k != "use"})
        seen = [orjson.dumps(configuration.shown()).decode(), repr(settings), str(settings), settings.model_dump_json()]
        for command in (["config", "show"], ["config", "show", "--json"], ["config", "check"], ["plugins", "list"]):
            done = CliRunner().invoke(cli, ["--config", str(main), *command])
            seen += [done.output, repr(done.exception)]
        seen.append(_complaint(main, tmp_path / file, kind, instance))
    seen += [r.getMessage() + str(r.exc_info or "") for r in caplog.records] + [log.getvalue()]
    assert all(CANARY not in text for text in seen)


class Talkative:
    """A plugin that logs and raises whatever it can see."""

    @hookimpl
    async def refine_query(self, question: str, queries: tuple[str, ...]) -> None:
        logging.getLogger("talkative").error("I was told %s", CANARY)
        raise RuntimeError(CANARY)


def _everything(llm: FakeLLMServer) -> dict[str, dict[str, Any]]:
    """An instance of every class that takes secrets, with one in each of their fields; the pipeline's own work."""
    tables: dict[str, dict[str, Any]] = {}
    for kind, name, cls, field in FIELDS:
        instance = tables.setdefault(f"{kind}.{name}_mine", {"use": name, **filled(cls.Settings, field)})
        instance[field] = value_for(cls.Settings, field)
    for kind in ("llms", "embedders"):
        at = {"use": "openai", "base_url": llm.url, "model": "fake"} | (
            {"dimensions": 8} if kind == "embedders" else {}
        )
        tables[f"{kind}.working"] = at | {"api_key": CANARY, "headers": {"X-Token": CANARY}}
    tables["pipelines.echo"] = {"extends": "default", "llm": ["working"], "embedder": "working"}
    # What is no component: a collector's key, which is really sent, and a password in an address.
    tables["tracing"] = {"endpoint": f"{llm.url}/traces", "headers": {"X-Key": CANARY}, "timeout": 0.5}
    tables["limits"] = {"counters": f"redis://:{CANARY}@127.0.0.1:9", "requests": 0, "failures": 0}
    return tables


def _asked(server: Served, llm: FakeLLMServer) -> Iterator[str]:
    """What a server tells that works, and one whose model sends back what it was sent."""
    notebook = server.notebook(pipeline="echo")
    server.source(notebook)
    for reply in (Reply(stream_of(["Ten [1]."])), json_reply({"error": {"message": f"bad key {CANARY}"}}, 401)):
        llm.script(reply)
        asked = {"question": "When does the harbour close?", "notebooks": [notebook], "stream": True}
        run_id = next(e.data["run_id"] for e in events(server.http.post("/api/v1/chat", json=asked)))
        yield server.http.get(f"/api/v1/runs/{run_id}/trace").text
    for path in ("/metrics", "/openapi.json", "/docs", "/", "/readyz", "/none"):
        yield server.http.get(path).text
    for path in ("config", "plugins", "pipelines", "me", "keys", "runs/run_none", f"notebooks/{notebook}/index"):
        yield server.http.get(f"/api/v1/{path}").text
    for path, body in (("notebooks", {"title": 1}), ("chat", {"question": "?"}), ("config/reload", {})):
        yield server.http.post(f"/api/v1/{path}", json=body).text


@pytest.mark.slow
@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_comes_out_of_a_server(tmp_path: Path, form: str) -> None:
    """Neither in its log, at its loudest, nor in traces, metrics, OpenAPI, what it shows of itself, and backups."""
    with FakeLLMServer(dimensions=8) as llm:
        main = tmp_path / "sourcebook.toml"
        levels = {"httpcore": "debug", "asyncio": "debug", "sqlalchemy": "info"}
        tables = _everything(llm) | {"logging": {"format": form, "level": "debug"}, "logging.levels": levels}
        main.write_text(toml(tables))
        server = Served(tmp_path, None, (Talkative(),), main)
        with logged(server.book.configuration) as log, server:
            told = list(_asked(server, llm))
            server.run(write_backup(server.book, tmp_path / "backup"))
        with zipfile.ZipFile(tmp_path / "backup") as backup:
            told += [backup.read(name).decode("latin-1") for name in backup.namelist()]
        sent = [str(request.headers) for request in llm.requests if CANARY in str(request.headers)]
        assert any("x-token" in headers for headers in sent), "it was really sent"
        assert any("x-key" in headers for headers in sent), "to the collector too"
        told += [r.body.decode("latin-1") for r in llm.requests if r.path.endswith("/traces")]
    assert "httpcore" in log.getvalue()
    assert "I was told ****" in log.getvalue()
    assert all(CANARY not in text for text in [*told, log.getvalue()])


def _complaint(main: Path, file: Path, kind: str, instance: Mapping[str, Any]) -> str:
    """What is said of the same instance with a mistake beside the secret."""
    file.write_text(toml({f"{kind}.mine": {**instance, "colour": "red"}}))
    plugins = Plugins(PluginSettings())
    plugins.load()
    configuration = load(main, {})
    try:
        Pipelines(plugins, configuration, main.parent, Http()).check()
    except SourcebookError as error:
        return f"{error} {error.problem()} {error.remedy}"
    raise AssertionError("the mistake was not found")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("storage", "database", f"postgresql+psycopg://me:{CANARY}@db.example/book"),
        ("limits", "counters", f"redis://:{CANARY}@redis.example:6379"),
        ("retrievers.mine", "url", f"http://me:{CANARY}@qdrant.example:6333"),
        ("retrievers.mine", "api_key", CANARY),
        ("blob_stores.mine", "secret_key", CANARY),
        ("llms.mine.headers", "Authorization", f"Bearer {CANARY}"),
        ("llms.mine.headers", "X-Whatever", CANARY),
        ("llms.mine.extra_body", "api_key", CANARY),
        ("tracing.headers", "X-Whatever", CANARY),
        ("jail.grants.mine.environment", "HF_TOKEN", CANARY),
    ],
)
def test_a_password_in_an_address_and_a_secret_by_its_name_are_masked(
    tmp_path: Path, section: str, key: str, value: str
) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text(f'[{section}]\n"{key}" = "{value}"\n')
    assert CANARY not in orjson.dumps(load(main, {}).shown()).decode()


def test_a_wrong_value_is_not_repeated_in_the_complaint(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    for text in (
        f'[server]\nport = "{CANARY}"\n',
        f'[limits]\nrequests = "{CANARY}"\n',
        f'[storage]\nblobs = "{CANARY}!"\n',
    ):
        main.write_text(text)
        with pytest.raises(SourcebookError) as caught:
            load(main, {})
        assert CANARY not in f"{caught.value} {caught.value.problem()}"
