"""The official client, on both transports, as the protocol is now and as it was with a handshake."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import httpx2
import pytest
import sqlalchemy as sa
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from sourcebook import Caller
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.database.tables import notebooks
from sourcebook.errors import PluginError
from sourcebook.hookspecs import hookimpl
from sourcebook.ids import new_id
from sourcebook.owners import Principal
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, chunk, stream_of
from sourcebook_plugins.mcp.resources import listing
from sourcebook_plugins.mcp.tools import TOOLS
from tests.api.support import HANDBOOK, Served, is_problem

T = TypeVar("T")
Work = Callable[[Client], Awaitable[T]]
QUESTION = "When does the harbour close?"
SENTENCE = "The harbour closes at ten in the evening."
# On stdio every test starts a server of its own, which takes seconds: in `make test` one of them stands for the others.
BOTH = pytest.mark.parametrize("door", ["http", pytest.param("stdio", marks=pytest.mark.slow)])
ALL = pytest.mark.parametrize(
    ("door", "mode"),
    [
        ("http", "auto"),
        ("http", "legacy"),
        pytest.param("stdio", "auto", marks=pytest.mark.slow),
        pytest.param("stdio", "legacy", marks=pytest.mark.slow),
    ],
)


class Reluctant:
    """A plugin that lets nobody read what is called `Secret`."""

    __name__ = "acme-reluctant"
    secret: str = ""

    @hookimpl
    async def authorize(self, principal: Principal, notebook: str | None) -> bool:
        return notebook is None or notebook != self.secret


class House:
    """A server, and how its doors are opened."""

    def __init__(self, server: Served, config: Path) -> None:
        self.server = server
        self.config = config

    @asynccontextmanager
    async def connected(
        self, door: str, key: str = "", owner: str = "local", mode: str = "auto"
    ) -> AsyncIterator[Client]:
        if door == "http":
            headers = {"authorization": f"Bearer {key}"} if key else {}
            async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
                wire: Any = streamable_http_client(self.server.url + "/mcp", http_client=http)
                async with Client(wire, mode=mode) as client:
                    yield client
            return
        env = {n: v for n, v in os.environ.items() if not n.startswith("SOURCEBOOK_")}
        arguments = ["-m", "sourcebook_api", "--config", str(self.config), "mcp", "--owner", owner, "--workers", "0"]
        started = StdioServerParameters(
            command=sys.executable, args=arguments, env={**env, **({"SOURCEBOOK_KEY": key} if key else {})}
        )
        async with Client(started, mode=mode) as client:
            yield client

    def do(self, door: str, work: Work[T], key: str = "", owner: str = "local", mode: str = "auto") -> T:
        """Connect, do `work`, go away."""

        async def run() -> T:
            async with self.connected(door, key, owner, mode) as client:
                return await work(client)

        return asyncio.run(run())

    def secret(self, owner: str, *permissions: str) -> str:
        return self.server.key(owner, *permissions)["Authorization"].split()[1]


def _house(folder: Path, llm: FakeLLMServer) -> Iterator[House]:
    config = folder / "sourcebook.toml"
    config.write_text(
        f"""
storage.path = "{folder / "data"}"
llms.fake = {{use = "openai", base_url = "{llm.url}", model = "fake"}}
pipelines.model = {{extends = "default", llm = ["fake"]}}
"""
    )
    with Served(folder, path=config, plugins=(Reluctant(),)) as server:
        yield House(server, config)


@pytest.fixture(scope="module")
def llm() -> Iterator[FakeLLMServer]:
    with FakeLLMServer() as server:
        yield server


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[House]:
    """Nobody needs a key here."""
    yield from _house(tmp_path_factory.mktemp("open"), llm)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, llm: FakeLLMServer) -> Iterator[House]:
    """Everybody needs a key here."""
    for made in _house(tmp_path_factory.mktemp("locked"), llm):
        made.secret("root", "admin")
        yield made


@pytest.fixture(scope="module")
def harbour(house: House) -> dict[str, str]:
    notebook = house.server.notebook(title="Harbour")
    return {"notebook": notebook, "source": house.server.source(notebook)["id"]}


@pytest.fixture(scope="module")
def modelled(house: House) -> str:
    """The title of a notebook that is answered by the scripted model."""
    house.server.source(house.server.notebook(title="Modelled", pipeline="model"))
    return "Modelled"


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured result of a call that succeeds; the client has checked it against the tool's schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> tuple[str, str]:
    """Code and words of a tool's error."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.structured_content is None
    (content,) = result.content
    problem = (result.meta or {})["problem"]
    assert content.type == "text"
    assert content.text.startswith(f"{problem['code']}: {problem['detail']}")
    return problem["code"], content.text


@ALL
def test_every_tool_is_driven_without_a_key(house: House, harbour: dict[str, str], door: str, mode: str) -> None:
    heard: list[tuple[float, str]] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message or ""))

    async def work(client: Client) -> None:
        listed = (await client.list_tools()).tools
        assert [t.name for t in listed] == list(TOOLS)
        assert all(t.output_schema and t.input_schema["additionalProperties"] is False for t in listed)

        notebooks = (await call(client, "list_notebooks"))["items"]
        assert harbour["notebook"] in [n["id"] for n in notebooks]

        found = (await call(client, "search", question=QUESTION, notebooks=["Harbour"]))["items"]
        assert SENTENCE in found[0]["text"]
        assert found[0]["where"] == "Harbour"

        result = await client.call_tool(
            "ask", {"question": QUESTION, "notebooks": [harbour["notebook"]]}, progress_callback=told
        )
        answer = result.structured_content
        (citation,) = answer["citations"]
        assert (answer["text"], answer["finish"], answer["grounded"]) == (f"{SENTENCE} [1]", "stop", True)
        assert (citation["quote"], citation["source_id"]) == (SENTENCE, harbour["source"])
        assert isinstance(result.content[0].text, str)  # type: ignore[union-attr]
        assert f'"{SENTENCE}"' in result.content[0].text  # type: ignore[union-attr]
        assert citation["url"].startswith(house.server.url) == (door == "http")

        read = await call(
            client, "read_source", source_id=citation["source_id"], start=citation["start"], end=citation["end"]
        )
        assert read["text"] == SENTENCE
        assert (read["where"], read["next_start"]) == (["Harbour"], citation["end"])
        whole = await call(client, "read_source", source_id=harbour["source"])
        assert (whole["start"], whole["end"], whole["next_start"]) == (0, whole["length"], None)

        name = f"crane-{door}-{mode}.txt"
        added = await call(
            client, "add_source", notebook="Harbour", text=f"The crane {name} lifts forty tons.", name=name
        )
        assert (added["state"], added["new"], added["name"]) == ("ready", True, name)
        again = await call(
            client, "add_source", notebook="Harbour", text=f"The crane {name} lifts forty tons.", name=name
        )
        assert (again["source_id"], again["new"]) == (added["source_id"], False)
        assert "forty tons" in (await call(client, "read_source", source_id=added["source_id"]))["text"]

    house.do(door, work, mode=mode)
    assert [done for done, _ in heard] == list(range(1, len(heard) + 1))
    assert "passages were found" in heard[0][1]
    assert len(heard) > 1


@ALL
def test_sources_are_resources_and_pipelines_have_prompts(
    house: House, harbour: dict[str, str], door: str, mode: str
) -> None:
    async def work(client: Client) -> None:
        uri = f"sourcebook://sources/{harbour['source']}"
        listed = [r.uri async for r in every_resource(client)]
        assert uri in listed
        assert len(set(listed)) == len(listed)
        assert SENTENCE in (await client.read_resource(uri)).contents[0].text  # type: ignore[union-attr]
        part = (await client.read_resource(f"{uri}?start=9&end=50")).contents[0]
        assert part.text == SENTENCE  # type: ignore[union-attr]
        notebook = (await client.read_resource(f"sourcebook://notebooks/{harbour['notebook']}")).contents[0]
        assert notebook.mime_type == "application/json"
        assert harbour["source"] in notebook.text  # type: ignore[union-attr]
        templates = (await client.list_resource_templates()).resource_templates
        assert [t.name for t in templates] == ["source", "notebook"]
        for wrong in ("sourcebook://sources/src_none", "file:///etc/passwd", f"{uri}?start=x", f"{uri}?start=9&end=1"):
            with pytest.raises(MCPError, match=r"not_found|invalid_request") as error:
                await client.read_resource(wrong)
            assert error.value.data["code"] in ("not_found", "invalid_request")

        names = [p.name for p in (await client.list_prompts()).prompts]
        assert names == ["answer-default", "condense-default", "answer-model", "condense-model"]
        prompt = await client.get_prompt("answer-model", {"question": QUESTION, "notebooks": "Harbour"})
        said = [m.content.text for m in prompt.messages]  # type: ignore[union-attr]
        assert "cite the passage" in said[0]
        assert '<passage number="1" source="handbook.md"' in said[-1]
        answer = await call(client, "ask", question=QUESTION, notebooks=["Harbour"])
        asked = {"question": "And on Sundays?", "conversation_id": answer["conversation_id"]}
        (condensing,) = (await client.get_prompt("condense-model", asked)).messages
        assert f"user: {QUESTION}" in condensing.content.text  # type: ignore[union-attr]
        for name, arguments in (("nobody", {}), ("answer-model", {}), ("answer-model", {"question": "x", "y": "z"})):
            with pytest.raises(MCPError, match=r"^(not_found|invalid_request): "):
                await client.get_prompt(name, arguments)

    house.do(door, work, mode=mode)


@pytest.mark.slow
def test_a_page_of_resources_passes_over_any_number_of_empty_notebooks(tmp_path: Path) -> None:
    async def main() -> None:
        settings = {"storage": {"path": str(tmp_path)}, "retrievers": {"qdrant": {"idle_seconds": 0}}}
        async with Sourcebook(load(environ={}, overrides=settings), workers=0) as book:
            caller = Caller(book, await book.owners.local())
            full = await book.create_notebook(caller.principal, "The oldest")
            source, _ = await caller.add_text(full.id, "tides.txt", "High water at six.")
            async with book.database.write() as c:
                like = sa.select(notebooks).where(notebooks.c.id == full.id)
                row = (await c.execute(like)).mappings().one()
                more = [{**row, "id": new_id("nb"), "title": f"Empty {n}"} for n in range(700)]
                await c.execute(notebooks.insert(), more)
            items, cursor = await listing(caller, None)
            assert ([i.name for i in items], cursor) == (["tides.txt"], None)
            assert items[0].uri.endswith(source.id)

    asyncio.run(main())


async def every_resource(client: Client) -> AsyncIterator[Any]:
    cursor = None
    while True:
        page = await client.list_resources(cursor=cursor)
        for resource in page.resources:
            yield resource
        if (cursor := page.next_cursor) is None:
            return


@BOTH
def test_errors_are_told_by_the_tool_with_their_codes(house: House, harbour: dict[str, str], door: str) -> None:
    async def work(client: Client) -> None:
        assert (await refused(client, "search", question=QUESTION, notebooks=["Nowhere"]))[0] == "not_found"
        code, said = await refused(client, "search", question="")
        assert code == "invalid_request"
        assert "question: " in said
        assert "question, notebooks, sources" in said
        assert (await refused(client, "ask", question=QUESTION, wish="x"))[0] == "invalid_request"
        assert (await refused(client, "search", question=QUESTION, filters={"moon": 1}))[0] == "filter_invalid"
        assert (await refused(client, "search", question=QUESTION, mode="dense"))[0] == "no_embedder"
        assert (await refused(client, "read_source", source_id="src_none"))[0] == "not_found"
        assert (await refused(client, "ask", question=QUESTION, conversation_id="conv_none"))[0] == "not_found"
        assert (await refused(client, "add_source", notebook="Harbour"))[0] == "invalid_request"
        both = {"text": "A", "url": "https://example.org"}
        assert (await refused(client, "add_source", notebook="Harbour", **both))[0] == "invalid_request"
        url = "http://127.0.0.1/inside"
        assert (await refused(client, "add_source", notebook="Harbour", url=url))[0] == "fetch_blocked"
        with pytest.raises(MCPError, match="There is no tool 'fly'"):
            await client.call_tool("fly", {})

    house.do(door, work)


@BOTH
def test_a_model_that_fails_is_an_error_with_its_code(
    house: House, modelled: str, llm: FakeLLMServer, door: str
) -> None:
    async def work(client: Client) -> None:
        llm.script(Reply([b"{}"], 401, {"content-type": "application/json"}))
        code, _ = await refused(client, "ask", question=QUESTION, notebooks=[modelled])
        assert code.startswith("llm_")
        llm.script(Reply([chunk({"content": "The harbour"}), "reset"]))
        answer = await call(client, "ask", question=QUESTION, notebooks=[modelled])
        assert (answer["text"], answer["finish"]) == ("The harbour", "error")
        assert answer["problem"]["code"].startswith("llm_")

    house.do(door, work)


@BOTH
def test_an_answer_is_told_while_it_grows(house: House, modelled: str, llm: FakeLLMServer, door: str) -> None:
    hold = Hold()
    heard = asyncio.Event()

    async def told(progress: float, total: float | None, message: str | None) -> None:
        if message and "harbour" in message:
            heard.set()

    async def work(client: Client) -> Any:
        llm.script(Reply([chunk({"content": "The harbour "}), hold, *stream_of(["is closed. [1]"])]))
        asked = {"question": QUESTION, "notebooks": [modelled]}
        asking = asyncio.ensure_future(client.call_tool("ask", asked, progress_callback=told))
        await asyncio.wait_for(heard.wait(), 30)
        assert not asking.done()
        hold.release()
        return (await asking).structured_content

    assert house.do(door, work)["text"] == "The harbour is closed. [1]"


@BOTH
def test_whoever_goes_away_stops_the_model(house: House, modelled: str, llm: FakeLLMServer, door: str) -> None:
    hold = Hold()
    before = len(llm.requests)

    async def work(client: Client) -> None:
        llm.script(Reply([chunk({"content": "The"}), hold, *stream_of(["end"])]))
        asking = asyncio.ensure_future(client.call_tool("ask", {"question": QUESTION, "notebooks": [modelled]}))
        assert await asyncio.to_thread(hold.reached.wait, 30)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    try:
        house.do(door, work)
        (request,) = llm.requests[before:]
        assert request.closed.wait(30)
    finally:
        hold.release()


@BOTH
def test_two_owners_are_apart(locked: House, door: str) -> None:
    ada, bob = locked.secret("ada", "read", "write"), locked.secret("bob", "read", "write")
    headers = {"Authorization": f"Bearer {ada}"}
    notebook = locked.server.notebook(headers, title=f"Hers {door}")
    source = locked.server.source(notebook, headers=headers)["id"]
    own = locked.server.notebook({"Authorization": f"Bearer {bob}"}, title=f"His {door}")

    async def hers(client: Client) -> str:
        assert notebook in [n["id"] for n in (await call(client, "list_notebooks"))["items"]]
        assert (await call(client, "read_source", source_id=source))["text"].startswith("Harbour")
        return str((await call(client, "ask", question=QUESTION, notebooks=[notebook]))["conversation_id"])

    conversation = locked.do(door, hers, key=ada)

    async def his(client: Client) -> None:
        assert notebook not in [n["id"] for n in (await call(client, "list_notebooks"))["items"]]
        assert (await call(client, "search", question=QUESTION))["items"] == []
        assert [r.uri async for r in every_resource(client)] == []
        for name in (notebook, f"Hers {door}"):
            for tool in ("search", "ask"):
                assert (await refused(client, tool, question=QUESTION, notebooks=[name]))[0] == "not_found"
            assert (await refused(client, "add_source", notebook=name, text="Mine"))[0] == "not_found"
        assert (await refused(client, "read_source", source_id=source))[0] == "not_found"
        asked = {"question": "And then?", "conversation_id": conversation}
        assert (await refused(client, "ask", **asked, notebooks=[own]))[0] == "not_found"
        assert (await refused(client, "ask", **asked))[0] == "not_found"
        for uri in (f"sourcebook://sources/{source}", f"sourcebook://notebooks/{notebook}"):
            with pytest.raises(MCPError, match="not_found"):
                await client.read_resource(uri)
        with pytest.raises(MCPError, match="not_found"):
            await client.get_prompt("condense-default", asked)
        # A cursor is no key: what it names is asked for anew.
        assert (await client.list_resources(cursor=f"{notebook}.")).resources == []
        with pytest.raises(MCPError, match="not_found"):
            await client.get_prompt("answer-default", {"question": QUESTION, "notebooks": notebook})

    locked.do(door, his, key=bob)


@pytest.mark.slow
def test_on_stdio_an_owner_is_named_where_there_is_no_key(locked: House) -> None:
    ada = locked.secret("ada", "read", "write")
    notebook = locked.server.notebook({"Authorization": f"Bearer {ada}"}, title="Named")

    async def mine(client: Client) -> list[str]:
        return [n["id"] for n in (await call(client, "list_notebooks"))["items"]]

    assert notebook in locked.do("stdio", mine, owner="ada")
    assert notebook not in locked.do("stdio", mine, owner="eve")


@BOTH
def test_a_key_that_only_reads_cannot_add(locked: House, door: str) -> None:
    writer = {"Authorization": f"Bearer {locked.secret('zoe', 'read', 'write')}"}
    notebook = locked.server.notebook(writer, title=f"Read {door}")
    locked.server.source(notebook, headers=writer)

    async def work(client: Client) -> None:
        assert (await call(client, "search", question=QUESTION, notebooks=[notebook]))["items"]
        assert (await call(client, "ask", question=QUESTION, notebooks=[notebook]))["grounded"]
        code, said = await refused(client, "add_source", notebook=notebook, text="Mine")
        assert code == "forbidden"
        assert "`write`" in said

    locked.do(door, work, key=locked.secret("zoe", "read"))
    listed = locked.server.http.get(f"/api/v1/notebooks/{notebook}/sources", headers=writer).json()["items"]
    assert [s["name"] for s in listed] == ["handbook.md"]


def test_the_gate_stands_before_it(locked: House) -> None:
    post = locked.server.http.post
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    is_problem(post("/mcp", json=ping), 401, "unauthenticated")
    is_problem(post("/mcp", json=ping, headers=locked.server.key("w", "write")), 403, "forbidden")
    reader = locked.server.key("r", "read")
    is_problem(post("/mcp", json=ping, headers={**reader, "Host": "evil.example"}), 421, "host_not_allowed")
    is_problem(post("/mcp", json=ping, headers={**reader, "Origin": "https://evil.example"}), 403, "origin_not_allowed")
    is_problem(locked.server.http.get("/mcp", headers=reader), 405, "method_not_allowed")
    large = post("/mcp", content=b" " * (4 * 1024 * 1024 + 1), headers={**reader, "Content-Type": "application/json"})
    is_problem(large, 413, "too_large")


@pytest.mark.slow
def test_a_key_that_is_none_is_told_before_stdio_begins(locked: House) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sourcebook_api", "--config", str(locked.config), "mcp"],
        env={**os.environ, "SOURCEBOOK_KEY": "sbk_wrong"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "This key is not valid." in done.stderr


@pytest.mark.slow
def test_a_key_that_is_revoked_opens_nothing_more_on_stdio(locked: House) -> None:
    key = locked.secret("yan", "read")
    (made,) = [k for k in locked.server.run(locked.server.book.owners.list_keys()) if k.owner == "yan"]

    async def work(client: Client) -> None:
        assert (await call(client, "list_notebooks"))["items"] == []
        await asyncio.to_thread(locked.server.run, locked.server.book.owners.revoke(made.id))
        assert (await refused(client, "list_notebooks"))[0] == "unauthenticated"

    locked.do("stdio", work, key=key)


def test_any_server_of_several_goes_on_with_what_another_began(house: House, harbour: dict[str, str]) -> None:
    """Nothing of a client is remembered between two requests, and no session is named."""
    accept = {"Accept": "application/json, text/event-stream"}
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}
    first = house.server.http.post("/mcp", json=hello, headers=accept)
    assert first.status_code == 200
    assert "mcp-session-id" not in first.headers
    with Served(house.config.parent, path=house.config) as second:
        asked = {"name": "search", "arguments": {"question": QUESTION, "notebooks": ["Harbour"]}}
        answer = httpx.post(
            f"{second.url}/mcp",
            json={"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked},
            headers={**accept, "MCP-Protocol-Version": "2025-06-18"},
            timeout=30,
        )
    assert answer.status_code == 200
    assert SENTENCE in answer.text


def test_what_a_plugin_denies_is_denied_here_too(house: House, harbour: dict[str, str]) -> None:
    notebook = house.server.notebook(title="Secret")
    house.server.source(notebook, "secret.md", HANDBOOK.replace("ten", "eleven").encode())
    Reluctant.secret = notebook

    async def work(client: Client) -> None:
        assert (await refused(client, "search", question=QUESTION, notebooks=["Secret"]))[0] == "forbidden"
        found = (await call(client, "search", question=QUESTION))["items"]
        assert found
        assert not [p for p in found if "eleven" in p["text"]]
        with pytest.raises(MCPError, match="forbidden"):
            await client.read_resource(f"sourcebook://notebooks/{notebook}")

    try:
        house.do("http", work)
    finally:
        Reluctant.secret = ""


def test_it_is_described_under_a_tag_of_its_own(house: House) -> None:
    operation = house.server.http.get("/openapi.json").json()["paths"]["/mcp"]["post"]
    assert operation["tags"] == ["plugin mcp"]
    assert operation["x-permission"] == "read"


def test_every_tool_says_what_it_does_and_which_ones_write() -> None:
    assert all(tool.description and tool.title for tool in TOOLS.values())
    assert [name for name, tool in TOOLS.items() if not tool.reads] == ["add_source"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_ends_it_while_its_client_says_nothing(locked: House, number: signal.Signals) -> None:
    arguments = [sys.executable, "-m", "sourcebook_api", "--config", str(locked.config), "mcp", "--workers", "0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_without_the_extra_it_is_off_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sourcebook_api.cli import cli

    monkeypatch.setattr("sourcebook.plugin_checks.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=r"the plugin mcp's, and it is off: .*pip install 'sourcebook\[mcp\]'"):
        CliRunner().invoke(cli, ["mcp"], catch_exceptions=False)
    with Served(tmp_path) as server:
        assert server.book.plugins.infos["mcp"].state == "off"
        is_problem(server.http.post("/mcp", json={}), 404, "not_found")
        assert server.http.get("/readyz").status_code == 200


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, sourcebook_plugins.mcp\nprint(*{'mcp', 'mcp_types', 'pydantic', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
