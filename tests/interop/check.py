"""`make interop`: real model servers before us, real clients behind us. Prints a line a fact, and fails on the first.

Run by the Python of an environment that has litellm, transformers and openai; our own server runs from ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import upstreams

ROOT = Path(__file__).parents[2]
OURS = os.environ.get("SOURCEBOOK_PYTHON", str(ROOT / ".venv/bin/python"))
NODE_MODULES = os.environ.get("INTEROP_NODE_MODULES", "")
TEXT = "# Lamps\n\nThe north lamp of the harbour is green. It is lit at dusk and put out at dawn.\n"
QUESTION = "Which colour is the north lamp of the harbour?"


class Ours:
    """Our server, with a notebook for every pipeline."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.notebooks: dict[str, str] = {}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """JSON to `/api/v1`, and its answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}", data, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def notebook(self, pipeline: str) -> None:
        """Make one that holds the text."""
        made = self.call("POST", "/notebooks", {"title": pipeline, "pipeline": pipeline})["id"]
        source = self.call("POST", f"/notebooks/{made}/sources/text", {"name": "lamps.md", "text": TEXT})["id"]
        for _ in range(600):
            if self.call("GET", f"/sources/{source}")["state"] == "ready":
                self.notebooks[pipeline] = made
                return
            time.sleep(0.1)
        raise SystemExit("the source did not become ready")

    def ask(self, pipeline: str, **options: Any) -> Any:
        """A whole answer over our own API."""
        body = {"question": QUESTION, "notebooks": [self.notebooks[pipeline]], "stream": False, "options": options}
        return self.call("POST", "/chat", body)


@contextlib.contextmanager
def ours(folder: Path, litellm_url: str, tiny_url: str, tiny: str) -> Iterator[Ours]:
    """Our server, with both upstreams."""
    at_litellm = {"use": "openai", "base_url": litellm_url, "api_key": upstreams.KEY}
    llms = {name: {**at_litellm, "model": name} for name in ("cites", "busy", "broken")}
    llms["tiny"] = {"use": "openai", "base_url": tiny_url, "model": tiny, "context_window": 16384, "max_tokens": 24}
    pipelines = {name: {"llm": [name]} for name in llms} | {"fallback": {"llm": ["broken", "cites"]}}
    lines = [f"[llms.{n}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for n, t in llms.items()]
    lines += [f'[pipelines.{n}]\nextends = "default"\nllm = {json.dumps(t["llm"])}\n' for n, t in pipelines.items()]
    config = folder / "sourcebook.toml"
    config.write_text(f'[storage]\npath = "{folder / "data"}"\n' + "\n".join(lines))
    port, log = upstreams.free_port(), folder / "sourcebook.log"
    command = (OURS, "-m", "sourcebook_api", "--config", str(config), "serve", "--port", str(port))
    with upstreams.process(log, *command) as started:
        server = Ours(f"http://127.0.0.1:{port}")
        upstreams.until_up(started, f"{server.url}/livez", log)
        for name in (*pipelines, "default"):
            server.notebook(name)
        yield server


def check(fact: str, holds: bool, seen: object = "") -> None:
    """One fact."""
    print(f"{'ok  ' if holds else 'FAIL'} {fact}", flush=True)
    if not holds:
        raise SystemExit(f"seen: {seen!r}")


def the_upstreams(server: Ours) -> None:
    """What real servers send becomes a whole answer or a typed error."""
    whole = server.ask("cites")
    check("litellm: the answer is whole and its citations are exact", whole["text"] == upstreams.ANSWER, whole)
    quotes = [c["quote"] for c in whole["citations"]]
    check("litellm: both sentences quote the source", all(q in TEXT for q in quotes) and len(quotes) == 2, quotes)
    check("litellm: grounded", whole["grounded"] is True, whole)
    for name, code in (("busy", "llm_rate_limited"), ("broken", "llm_server_error")):
        try:
            server.ask(name)
            check(f"litellm: {name} is an error", False)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            check(f"litellm: {name} is {code}", (error.code, problem["code"]) == (502, code), problem)
    spare = server.ask("fallback")
    check("the next model answers where the first fails", spare["usage"]["llm"] == "cites", spare["usage"])
    nonsense = server.ask("tiny", max_tokens=16)
    check("transformers serve: an answer up to its length limit", nonsense["finish"] == "length", nonsense)
    check("transformers serve: usage is told", nonsense["usage"]["completion_tokens"] > 0, nonsense["usage"])
    check("transformers serve: no citation is made up", nonsense["citations"] == [], nonsense)


def the_openai_client(server: Ours) -> None:
    """The real package reads all of it without a special case."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    model = server.notebooks["cites"]
    check("openai: models", model in {m.id for m in client.models.list()})
    check("openai: one model", client.models.retrieve(model).id == model)
    messages: Any = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model=model, messages=messages)
    message = whole.choices[0].message
    check("openai: content", message.content == upstreams.ANSWER, whole)
    check("openai: finish", whole.choices[0].finish_reason == "stop", whole)
    found = message.annotations or []
    check("openai: annotations", [a.type for a in found] == ["url_citation"] * 2, found)
    cited = found[0].url_citation
    said = (message.content or "")[cited.start_index : cited.end_index]
    check("openai: an annotation names its sentence", said == "The north lamp of the harbour is green", said)
    with urllib.request.urlopen(cited.url) as page:
        check("openai: an annotation opens", b"<mark" in page.read())
    check("openai: usage", whole.usage is not None and whole.usage.total_tokens > 0, whole.usage)
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    check("openai: streamed content", text == upstreams.ANSWER, text)
    check("openai: streamed finish", [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop", chunks)
    check("openai: usage last", chunks[-1].usage is not None and chunks[-1].choices == [], chunks[-1])
    extra = [c.choices[0].delta.model_extra or {} for c in chunks if c.choices]
    check("openai: streamed annotations", sum("annotations" in e for e in extra) == 2, extra)
    thoughts = list(client.chat.completions.create(model=server.notebooks["default"], messages=messages, stream=True))
    kinds = [(c.choices[0].delta.model_extra or {}).get("reasoning_content") for c in thoughts if c.choices]
    check("openai: reasoning comes first", bool(kinds[1]) and not kinds[-1], kinds)
    the_openai_errors(client, server, messages)


def the_openai_errors(client: openai.OpenAI, server: Ours, messages: Any) -> None:
    """Every kind is the class that the package has for it."""
    model = server.notebooks["cites"]
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
    chat = client.chat.completions.create
    tries: list[tuple[str, type[openai.APIStatusError], str, Callable[[], object]]] = [
        ("tools", openai.BadRequestError, "tools_unsupported",
         lambda: chat(model=model, messages=messages, tools=[tool])),
        ("an unknown model", openai.NotFoundError, "model_not_found", lambda: chat(model="x", messages=messages)),
        ("a model that fails", openai.InternalServerError, "llm_server_error",
         lambda: chat(model=server.notebooks["broken"], messages=messages)),
        ("no embedder", openai.NotFoundError, "model_not_found",
         lambda: client.embeddings.create(model=model, input="A")),
    ]  # fmt: skip
    for what, cls, code, attempt in tries:
        try:
            attempt()
            check(f"openai: {what} is an error", False)
        except cls as error:
            check(f"openai: {what} is {cls.__name__}, {code}", error.code == code, error)
    try:
        list(chat(model=server.notebooks["broken"], messages=messages, stream=True))
        check("openai: an error in a stream is raised", False)
    except openai.APIError as error:
        check("openai: an error in a stream is raised", error.code == "llm_server_error", error)


def the_ai_sdk(server: Ours) -> None:
    """The AI SDK, from npm, through its provider for OpenAI-compatible servers."""
    if not NODE_MODULES:
        raise SystemExit("INTEROP_NODE_MODULES does not say where the AI SDK is installed")
    script = Path(NODE_MODULES).parent / "check.mjs"  # where its imports are found
    script.write_text((Path(__file__).parent / "check.mjs").read_text())
    names = {name: server.notebooks[name] for name in ("cites", "default", "broken")}
    arguments = [f"{server.url}/v1", json.dumps(names), QUESTION, upstreams.ANSWER]
    done = subprocess.run(["node", str(script), *arguments], capture_output=True, text=True, timeout=120, check=False)
    print(done.stdout, end="")
    check("AI SDK: every fact", done.returncode == 0, done.stderr[-3000:])


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="interop-") as made:
        folder = Path(made)
        with (
            upstreams.litellm(folder) as litellm_url,
            upstreams.transformers(folder) as (tiny_url, tiny),
            ours(folder, litellm_url, tiny_url, tiny) as server,
        ):
            the_upstreams(server)
            the_openai_client(server)
            the_ai_sdk(server)
    print("interop: every fact holds")


if __name__ == "__main__":
    main()
