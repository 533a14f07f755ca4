"""The layers of the configuration, which of them wins, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sourcebook.configuration import MASK, Configuration, load
from sourcebook.errors import ConfigError
from sourcebook.settings import Settings


def configured(folder: Path, main: str = "", secrets: str | None = None, **environ: str) -> Configuration:
    """What a folder with these two files, and this environment, means."""
    (folder / "sourcebook.toml").write_text(main)
    if secrets is not None:
        (folder / "secrets.toml").write_text(secrets)
    return load(folder / "sourcebook.toml", {f"SOURCEBOOK_{name}": value for name, value in environ.items()})


def test_an_empty_configuration_is_the_defaults(tmp_path: Path) -> None:
    assert configured(tmp_path).settings == Settings() == load(environ={}).settings


def test_later_layers_win(tmp_path: Path) -> None:
    main = '[llms.fast]\nuse = "openai"\nmodel = "file"\nbase_url = "http://file"\napi_key = "file"'
    found = configured(tmp_path, main, '[llms.fast]\napi_key = "secrets"\nmodel = "secrets"', LLMS__FAST__MODEL="env")
    assert found.settings.llms["fast"] == {
        "use": "openai",
        "model": "env",
        "base_url": "http://file",
        "api_key": "secrets",
    }
    assert found.origins["llms.fast.base_url"] == str(tmp_path / "sourcebook.toml")
    assert found.origins["llms.fast.api_key"] == str(tmp_path / "secrets.toml")
    assert found.origins["llms.fast.model"] == "SOURCEBOOK_LLMS__FAST__MODEL (environment)"
    assert found.origins["server.port"] == "defaults"


def test_options_win_over_everything(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[server]\nport = 1")
    found = load(tmp_path / "c.toml", {"SOURCEBOOK_SERVER__PORT": "2"}, {"server": {"port": 3}})
    assert found.settings.server.port == 3
    assert found.origins["server.port"] == "options"


def test_a_file_for_a_container_secret_wins_over_the_variable_and_is_masked(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("123456\n")
    found = configured(tmp_path, LLMS__FAST__TEAM="plain", LLMS__FAST__TEAM_FILE=str(tmp_path / "key"))
    assert found.settings.llms["fast"]["team"] == "123456"
    assert found.shown()["llms"]["fast"]["team"] == MASK


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SOURCEBOOK_LLMS__FAST__API_KEY_FILE names /nowhere"):
        configured(tmp_path, LLMS__FAST__API_KEY_FILE="/nowhere")


@pytest.mark.parametrize("raw", ["123456", "1e5", "true", "null", "2024-01-01", "@int 3", "@jinja {{ 1 + 1 }}"])
def test_a_string_from_the_environment_stays_a_string(tmp_path: Path, raw: str) -> None:
    assert configured(tmp_path, LLMS__FAST__API_KEY=raw).settings.llms["fast"]["api_key"] == raw


@pytest.mark.parametrize("raw", ["@int 3", "@jinja {{ 1 + 1 }}", "@format {env[HOME]}", "@none", "@merge x"])
def test_a_string_in_a_file_stays_a_string(tmp_path: Path, raw: str) -> None:
    assert configured(tmp_path, f'[llms.fast]\napi_key = "{raw}"').settings.llms["fast"]["api_key"] == raw


def test_the_environment_is_typed_by_the_settings(tmp_path: Path) -> None:
    found = configured(
        tmp_path,
        SERVER__PORT="9000",
        SERVER__ALLOWED_HOSTS='["a.example", "b.example"]',
        PIPELINES__DEFAULT__LLM="fast",
    ).settings
    assert found.server.port == 9000
    assert found.server.allowed_hosts == ("a.example", "b.example")
    assert found.pipelines["default"].llm == ("fast",)


def test_a_list_is_replaced_and_a_table_is_merged(tmp_path: Path) -> None:
    main = '[plugins]\nenabled = ["a"]\ndisabled = ["web"]\n[pipelines.default.search]\nlimit = 3'
    found = configured(
        tmp_path, main, '[plugins]\nenabled = ["b"]\n[pipelines.default.search]\nneighbours = 1'
    ).settings
    assert found.plugins.enabled == ("b",)
    assert found.plugins.disabled == ("web",)
    assert (found.pipelines["default"].search.limit, found.pipelines["default"].search.neighbours) == (3, 1)


def test_only_names_with_two_underscores_are_settings(tmp_path: Path) -> None:
    assert configured(tmp_path, CONFIG="", PORT="9").settings == Settings()


def test_names_in_files_may_have_any_case_and_what_is_deeper_keeps_its_own(tmp_path: Path) -> None:
    found = configured(tmp_path, '[LLMs.Fast]\nMODEL = "m"\n[LLMs.Fast.headers]\nX-Team = "red"').settings
    assert found.llms == {"fast": {"model": "m", "headers": {"X-Team": "red"}}}


def test_an_unknown_key_is_refused_with_its_file_and_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, "[server]\nprot = 1\n[pipelines.default.serch]\nlimit = 1", JOBS__WORKRES="2")
    by_key = {issue["key"]: issue for issue in caught.value.details["issues"]}
    assert by_key["server.prot"]["origin"] == str(tmp_path / "sourcebook.toml")
    assert by_key["server.prot"]["message"] == "unknown key; did you mean 'port'?"
    assert by_key["pipelines.default.serch"]["message"] == "unknown key; did you mean 'search'?"
    assert by_key["jobs.workres"]["origin"] == "SOURCEBOOK_JOBS__WORKRES (environment)"
    assert str(tmp_path / "sourcebook.toml") in str(caught.value)


def test_a_wrong_value_is_told_with_its_layer_and_without_the_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, '[plugins]\nenabled = ["a", 7]', SERVER__PORT="hunter2")
    assert {i["key"]: i["origin"] for i in caught.value.details["issues"]} == {
        "plugins.enabled.1": str(tmp_path / "sourcebook.toml"),
        "server.port": "SOURCEBOOK_SERVER__PORT (environment)",
    }
    assert "hunter2" not in str(caught.value.problem())


def test_an_instance_must_have_a_plain_name(tmp_path: Path) -> None:
    found = issues_of(tmp_path, '[llms."gpt-4"]\nuse = "openai"')
    assert found == {"llms.gpt-4": "a name is small letters, digits and underscores, and begins with a letter"}


@pytest.mark.parametrize("counters", ["", "foo://", "localhost:6379", "async+redis://h"])
def test_counters_of_an_unknown_kind_are_refused(tmp_path: Path, counters: str) -> None:
    assert "such as redis://" in issues_of(tmp_path, f'[limits]\ncounters = "{counters}"')["limits.counters"]
    assert configured(tmp_path, '[limits]\ncounters = "redis://h:6379"').settings.limits.counters == "redis://h:6379"


@pytest.mark.parametrize("empty", ["llm = []", "retrievers = []"])
def test_a_pipeline_needs_something_to_find_with_and_something_to_answer_with(tmp_path: Path, empty: str) -> None:
    with pytest.raises(ConfigError, match="at least 1 item"):
        configured(tmp_path, f"[pipelines.default]\n{empty}")


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load(environ={"SOURCEBOOK_CONFIG": str(tmp_path / "none.toml")})


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nport = 7")
    found = load(environ={"SOURCEBOOK_CONFIG": str(tmp_path / "other.toml")})
    assert found.settings.server.port == 7
    assert found.files == [tmp_path / "other.toml"]


def test_a_broken_file_is_refused_by_name_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sourcebook\.toml: this is not valid TOML.*line 2"):
        configured(tmp_path, "[server]\nport = nine\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("")
    (tmp_path / "c.toml").chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "c.toml", {})


def test_no_other_file_in_the_folder_is_loaded_or_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sourcebook.local.toml").write_text("[server]\nport = 1")
    (tmp_path / "dynaconf_hooks.py").write_text("raise SystemExit('run')")
    monkeypatch.setenv("MERGE_ENABLED_FOR_DYNACONF", "true")
    monkeypatch.setenv("DYNACONF_SERVER__PORT", "2")
    assert configured(tmp_path, "[server]\nhost = '::1'").settings.server.port == 8000


@pytest.mark.parametrize("value", ['"hunter2"', '["hunter2"]', "{ a = 'hunter2' }", "424242", "true"])
def test_what_comes_from_secrets_is_masked_whatever_its_type(tmp_path: Path, value: str) -> None:
    shown = configured(tmp_path, secrets=f"[llms.fast]\nthing = {value}").shown()
    assert shown["llms"]["fast"]["thing"] in (MASK, {"a": MASK})


@pytest.mark.parametrize(
    "main",
    [
        "[llms.fast]\napi_key = 'hunter2'",
        "[llms.fast.headers]\nX-Whatever = 'hunter2'",
        "[storage]\ndatabase = 'postgresql+psycopg://me:hunter2@db.example/sourcebook'",
        "[fetchers.web]\npassword = 'hunter2'",
    ],
)
def test_a_secret_is_masked_by_its_name_where_it_stands_in_the_open(tmp_path: Path, main: str) -> None:
    shown = str(configured(tmp_path, main).shown())
    assert "hunter2" not in shown
    assert MASK in shown


def test_what_is_no_secret_is_shown(tmp_path: Path) -> None:
    main = "[llms.fast]\nmodel = 'm'\nmax_tokens = 5\nbase_url = 'http://localhost:1/v1'"
    assert MASK not in str(configured(tmp_path, main).shown())


def test_a_value_that_overrides_a_secret_in_the_open_is_no_secret(tmp_path: Path) -> None:
    found = configured(tmp_path, secrets="[llms.fast]\nmodel = 'quiet'", LLMS__FAST__MODEL="open")
    assert found.shown()["llms"]["fast"]["model"] == "open"


def test_a_pipeline_extends_another_key_by_key(tmp_path: Path) -> None:
    main = """
    [pipelines.default]
    llm = ["a"]
    search = { limit = 3, neighbours = 2 }
    [pipelines.deep]
    extends = "default"
    search = { limit = 20 }
    [pipelines.deeper]
    extends = "deep"
    llm = ["b", "a"]
    """
    found = configured(tmp_path, main).settings.pipelines
    assert found["deep"].llm == ("a",)
    assert (found["deep"].search.limit, found["deep"].search.neighbours) == (20, 2)
    assert found["deeper"].search == found["deep"].search
    assert found["deeper"].llm == ("b", "a")


@pytest.mark.parametrize(
    ("base", "said"), [("a", "extends itself"), ("b", "extends itself"), ("none", "there is no pipeline 'none'")]
)
def test_a_pipeline_cannot_extend_itself_or_nothing(tmp_path: Path, base: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configured(tmp_path, f"[pipelines.a]\nextends = '{base}'\n[pipelines.b]\nextends = 'a'")


def issues_of(folder: Path, main: str, **environ: str) -> dict[str, str]:
    """Key and message of each mistake in a file."""
    with pytest.raises(ConfigError) as caught:
        configured(folder, main, **environ)
    return {issue["key"]: issue["message"] for issue in caught.value.details["issues"]}


@pytest.mark.parametrize(
    "url", ["mysql://me:hunter2@h/x", "oracle+x://h", "just words", "sqlite://", "sqlite:///:memory:"]
)
def test_a_database_that_we_do_not_run_on_is_refused_with_what_to_write(tmp_path: Path, url: str) -> None:
    message = issues_of(tmp_path, f'[storage]\ndatabase = "{url}"')["storage.database"]
    assert "postgresql://user:password@host/name" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url", ["", "postgresql://u:p@h/x", "postgres://h/x", "postgresql+psycopg://h/x", "sqlite:////srv/book.db"]
)
def test_a_database_that_we_run_on_is_taken(tmp_path: Path, url: str) -> None:
    assert configured(tmp_path, f'[storage]\ndatabase = "{url}"').settings.storage.database == url


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("notes.example.org", "has no scheme"),
        ("//notes.example.org", "has no scheme"),
        ("null", "has no scheme"),
        ("*", "has no scheme"),
        ("https://", "is no origin"),
        ("https://*.example.org", "is no origin"),
        ("https://notes.example.org/page", "is no origin"),
        ("https://notes.example.org:443", "take away ':443'"),
        ("http://notes.example.org:80/", "take away ':80'"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(tmp_path: Path, origin: str, said: str) -> None:
    message = issues_of(tmp_path, f'[server]\nallowed_origins = ["{origin}"]')["server.allowed_origins"]
    assert said in message
    assert origin in message


def test_an_origin_as_browsers_send_it_is_taken(tmp_path: Path) -> None:
    origins = ("https://notes.example.org", "http://localhost:5173/", "tauri://localhost", "http://[::1]:8080")
    found = configured(tmp_path, SERVER__ALLOWED_ORIGINS=str(list(origins)).replace("'", '"'))
    assert found.settings.server.allowed_origins == origins


@pytest.mark.parametrize("host", ["https://notes.example.org", "*.example.org", "", "a b"])
def test_what_no_host_is_called_is_refused(tmp_path: Path, host: str) -> None:
    assert repr(host) in issues_of(tmp_path, f'[server]\nallowed_hosts = ["{host}"]')["server.allowed_hosts"]


@pytest.mark.parametrize("url", ["notes.example.org", "ftp://notes.example.org", "https://"])
def test_links_begin_with_a_web_address(tmp_path: Path, url: str) -> None:
    assert "http://" in issues_of(tmp_path, f'[links]\npublic_url = "{url}"')["links.public_url"]


@pytest.mark.parametrize(
    ("key", "example"),
    [
        (".md", "'md'"),
        ("MD", "'md'"),
        ("tar.gz", "'gz'"),
        ("", "'pdf'"),
        ("text/*", "media type"),
        ("Text/Plain", "media"),
    ],
)
def test_a_file_type_that_is_never_looked_up_is_refused(tmp_path: Path, key: str, example: str) -> None:
    message = issues_of(tmp_path, f'[pipelines.default.parsers]\n"{key}" = ["text"]')["pipelines.default.parsers"]
    assert repr(key) in message
    assert example in message


def test_a_file_type_as_it_is_looked_up_is_taken(tmp_path: Path) -> None:
    main = '[pipelines.default.parsers]\n"image/svg+xml" = ["text"]\nmd = ["text"]'
    assert set(configured(tmp_path, main).settings.pipelines["default"].parsers) == {"image/svg+xml", "md"}


@pytest.mark.parametrize("value", ["-0.5", "inf", "nan"])
def test_a_weight_is_a_number_from_nothing_on(tmp_path: Path, value: str) -> None:
    main = f"[pipelines.default.search.weights]\nlexical = {value}"
    assert "lexical" in issues_of(tmp_path, main)["pipelines.default.search.weights"]


def test_true_is_no_number(tmp_path: Path) -> None:
    main = """
    hook_deadline = true
    [pipelines.default.search]
    limit = true
    prefer_parent = true
    [pipelines.default.search.weights]
    lexical = true
    [jail.grants.layout]
    network = true
    threads = true
    [limits.owners]
    zoe = false
    """
    found = issues_of(tmp_path, main, SERVER__PORT="true")
    where = "pipelines.default.search"
    wrong = {"hook_deadline", "server.port", f"{where}.limit", f"{where}.weights.lexical", "jail.grants.layout.threads"}
    assert set(found) == wrong | {"limits.owners.zoe"}
    assert set(found.values()) == {"a number is needed here, and this is true or false"}


@pytest.mark.parametrize(
    ("main", "key", "homes"),
    [
        ("port = 80", "port", "[server] has"),
        ("lease = 3", "lease", "[jobs] and [runs] have"),
        ("[search]\nlimit = 3", "search", "[pipelines.NAME] has"),
        ("[pipelines.default]\nlimit = 3", "pipelines.default.limit", "[pipelines.NAME.search] has"),
        ("[jail]\nrecycle = 3", "jail.recycle", "[jail.grants.NAME] has"),
        ("[server]\nhook_deadline = 3", "server.hook_deadline", "the top level has"),
    ],
)
def test_a_key_without_its_section_is_told_which_section_has_it(
    tmp_path: Path, main: str, key: str, homes: str
) -> None:
    assert issues_of(tmp_path, main) == {key: f"unknown key; {homes} one of this name"}
