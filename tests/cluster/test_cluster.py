"""What is begun on one process is followed, ended and survived through any other."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from sourcebook.database.engine import Database
from sourcebook.database.tables import SCHEMA
from sourcebook.testing.llm_server import FakeLLMServer, Hold, Reply, stream_of
from tests.next_version import upgraded_to_the_next
from tests.postgres import Postgres
from tests.s3 import S3Server

from .harness import Api, Cluster, events, until
from .load import Load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

HANDBOOK = "# Harbour\n\nThe harbour closes at ten in the evening. The lamp on the mole is green.\n"
QUESTION = "When does the harbour close?"


@pytest.fixture(scope="module", params=["files", "s3"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    blobs: dict[str, Any] = {"storage": {}, "instances": {"blob_stores.files": {"folder": str(folder / "blobs")}}}
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        given = s3.settings(s3.bucket(), prefix="sources").model_dump(exclude_unset=True)
        keys = {"access_key_id": "test", "secret_access_key": "a secret of the tests"}
        blobs = {"storage": {"blobs": "bucket"}, "instances": {"blob_stores.bucket": {"use": "s3", **given, **keys}}}
    with FakeLLMServer() as fake, Cluster(folder, postgres, fake, blobs).running() as running:
        yield running


@pytest.fixture
def notebook(cluster: Cluster) -> str:
    """With one source that is ready."""
    made = cluster.notebook()
    cluster.ready(cluster.b.http, cluster.put(cluster.a.http, made, "handbook.md", HANDBOOK)["id"])
    return made


def asked(notebook: str) -> dict[str, Any]:
    return {"question": QUESTION, "notebooks": [notebook], "stream": True}


def held() -> tuple[Reply, Hold]:
    """An answer that begins, and goes on when it is let."""
    hold = Hold()
    first, rest = stream_of(["The harbour "])[:2], stream_of(["closes at ten. [1]"])[1:]
    return Reply([*first, hold, *rest]), hold


class Run:
    """A run that stands in the middle of its answer, on the server that was asked."""

    def __init__(self, cluster: Cluster, http: httpx.Client, notebook: str) -> None:
        reply, self.hold = held()
        cluster.fake.script(reply)
        self._stream = http.stream("POST", "/api/v1/chat", json=asked(notebook))
        self.answer = self._stream.__enter__()
        self.events = events(self.answer)
        self.id = next(self.events)["run_id"]
        assert next(e["delta"] for e in self.events if e["type"] == "content") == "The harbour "
        chats = [r for r in cluster.fake.requests if r.path.endswith("completions")]
        self.upstream = chats[-1]

    def close(self) -> None:
        self.hold.release()
        with suppress(httpx.HTTPError):  # its server was killed
            self._stream.__exit__(None, None, None)


def test_an_upload_through_one_is_followed_and_answered_through_the_other(cluster: Cluster) -> None:
    notebook = cluster.notebook()
    made = cluster.put(cluster.a.http, notebook, "handbook.md", HANDBOOK)
    with cluster.b.http.stream("GET", f"/api/v1/jobs/{made['job_id']}/events") as answer:
        *_, last = events(answer)
    assert last["state"] == "done"
    assert cluster.b.http.get(f"/api/v1/sources/{made['id']}/content").text == HANDBOOK
    reply = cluster.b.http.post("/api/v1/chat", json=asked(notebook) | {"stream": False}).json()
    assert reply["finish"] == "stop"
    found = cluster.a.http.post("/api/v1/search", json={"question": QUESTION, "notebooks": [notebook]}).json()
    assert "closes at ten" in found["items"][0]["text"]


def test_the_proxy_passes_on_each_event_when_it_comes(cluster: Cluster, notebook: str) -> None:
    run = Run(cluster, cluster.http, notebook)  # the first word is read while the model holds the second
    run.hold.release()
    assert list(run.events)[-1]["finish"] == "stop"
    run.close()


def test_the_proxy_passes_on_a_file_as_it_arrives(cluster: Cluster) -> None:
    notebook, gone = cluster.notebook(), Hold()

    def pieces() -> Iterator[bytes]:
        yield HANDBOOK.encode()
        # The server has taken the request before all of it was sent: nginx would hold it back until the end.
        until("the upload arrived", lambda: "slow.md" in open_requests(cluster))
        gone.release()
        yield b"\nMore.\n"

    answer = cluster.http.put(f"/api/v1/notebooks/{notebook}/sources/slow.md", content=pieces())
    assert answer.status_code == 202
    assert cluster.ready(cluster.http, answer.json()["id"])["name"] == "slow.md"


def open_requests(cluster: Cluster) -> str:
    """Which connections nginx holds to the servers: the kernel's list of sockets has them."""
    established = "01"
    ports = {f"{api.port:04X}" for api in (cluster.a, cluster.b)}
    with open("/proc/net/tcp") as table:  # noqa: PTH123 - no file of ours
        rows = [line.split() for line in table.readlines()[1:]]
    return "slow.md" if any(r[2].split(":")[1] in ports and r[3] == established for r in rows) else ""


def test_a_run_of_one_is_followed_and_cancelled_through_the_other(cluster: Cluster, notebook: str) -> None:
    run = Run(cluster, cluster.a.http, notebook)
    with cluster.b.http.stream("GET", f"/api/v1/runs/{run.id}/events") as answer:
        following = events(answer)
        assert next(e["delta"] for e in following if e["type"] == "content") == "The harbour "
        began = time.monotonic()
        assert cluster.b.http.post(f"/api/v1/runs/{run.id}/cancel").status_code in (200, 202)
        assert run.upstream.closed.wait(30)
        print(
            f"\nthe model was closed {1000 * (run.upstream.closed_at - began):.0f} ms after a cancel through the other"
        )
        last = list(following)[-1]
    assert (last["type"], last["finish"], last["message_state"]) == ("done", "cancelled", "incomplete")
    assert list(run.events)[-1]["finish"] == "cancelled"
    run.close()


def test_a_killed_servers_run_ends_as_interrupted_for_who_follows_it_elsewhere(cluster: Cluster, notebook: str) -> None:
    run = Run(cluster, cluster.a.http, notebook)
    with cluster.b.http.stream("GET", f"/api/v1/runs/{run.id}/events") as answer:
        following = events(answer)
        assert next(e["delta"] for e in following if e["type"] == "content") == "The harbour "
        cluster.a.end(signal.SIGKILL)
        rest = list(following)
    run.close()
    assert [e["type"] for e in rest] == ["error", "done"]
    assert (rest[0]["problem"]["code"], rest[0]["retryable"]) == ("interrupted", True)
    assert (rest[1]["finish"], rest[1]["message_state"], rest[1]["text"]) == ("error", "incomplete", "The harbour ")
    through_nginx = cluster.http.get(f"/api/v1/runs/{run.id}/events")  # whichever is left
    assert [e["type"] for e in events(through_nginx)][-2:] == ["error", "done"]
    cluster.a.start()


def test_a_killed_workers_job_is_done_by_the_other(cluster: Cluster) -> None:
    hold = Hold()
    cluster.fake.script(Reply([hold]), path="/v1/embeddings")
    notebook = cluster.notebook()
    text = f"# Worker\n\nNobody has embedded this before: {notebook}.\n"
    made = cluster.put(cluster.a.http, notebook, "new.md", text)
    assert hold.reached.wait(30)
    # A worker's name holds its process's number.
    name = cluster.psql(f"SELECT worker FROM jobs WHERE id = '{made['job_id']}'")
    (killed,) = [worker for worker in cluster.workers if f"-{worker.pid}-" in name]
    (other,) = [worker for worker in cluster.workers if worker is not killed]
    killed.end(signal.SIGKILL)
    hold.release()
    cluster.ready(cluster.b.http, made["id"])
    assert other.alive
    assert int(cluster.psql(f"SELECT attempt FROM jobs WHERE id = '{made['job_id']}'")) == 2
    killed.start()


def test_under_load_a_server_and_a_worker_are_killed_and_only_what_was_on_them_fails(
    cluster: Cluster, notebook: str
) -> None:
    with Load(cluster, notebook) as load:
        until("warm", lambda: load.total() > 40)
        killed_at = time.monotonic()
        cluster.a.end(signal.SIGKILL)
        cluster.workers[0].end(signal.SIGKILL)
        dead_at, before = time.monotonic(), load.total()
        until("going on", lambda: load.total() > before + 60)
        cluster.a.start()
        cluster.workers[0].start()
        before = load.total()
        until("going on", lambda: load.total() > before + 60)
    print(f"\nkilled under load: {load.report()}")
    assert load.blameless(cluster.a.port, killed_at, dead_at) == []
    settled(cluster, notebook)


def test_under_load_a_changed_configuration_is_rolled_through_all_and_nothing_fails(
    cluster: Cluster, notebook: str
) -> None:
    with Load(cluster, notebook) as load:
        until("warm", lambda: load.total() > 40)
        cluster.configure(model="second")
        for process in (cluster.a, cluster.b, *cluster.workers):
            process.send(signal.SIGHUP)
            before = load.total()
            until("going on", lambda before=before: load.total() > before + 20)  # type: ignore[misc]
        for api in (cluster.a, cluster.b):
            until("the new model is asked", lambda api=api: asks(cluster, api, notebook, "second"))  # type: ignore[misc]
    print(f"\nreloaded under load: {load.report()}")
    assert load.failures == []
    settled(cluster, notebook)


def asks(cluster: Cluster, api: Api, notebook: str, model: str) -> bool:
    """Whether a question that no other client has is put to this model by this server."""
    mark = f"What is {uuid.uuid4().hex}?"
    assert api.http.post("/api/v1/chat", json=asked(notebook) | {"stream": False, "question": mark}).status_code == 200
    return any(mark in str(r.json) and r.json["model"] == model for r in cluster.fake.requests if "chat" in r.path)


def test_under_load_servers_that_were_taken_out_of_the_proxy_are_restarted_and_nothing_fails(
    cluster: Cluster, notebook: str
) -> None:
    with Load(cluster, notebook) as load:
        until("warm", lambda: load.total() > 40)
        for api in (cluster.a, cluster.b):
            cluster.nginx.take_out(api.port, out=True)
            api.restart()
            cluster.nginx.take_out(api.port, out=False)
            before = load.total()
            until("going on", lambda before=before: load.total() > before + 40)  # type: ignore[misc]
    print(f"\nrestarted under load: {load.report()}")
    assert load.failures == []
    settled(cluster, notebook)


def test_under_load_the_database_is_upgraded_for_the_next_version_and_nothing_fails(
    cluster: Cluster, notebook: str, tmp_path: Path
) -> None:
    """As every upgrade begins: the schema first, while this version's servers go on, and start, with the newer one."""

    async def upgraded() -> None:
        database = Database(cluster.database, tmp_path)
        await upgraded_to_the_next(database, tmp_path / "next", since=SCHEMA)
        await database.close()

    with Load(cluster, notebook) as load:
        until("warm", lambda: load.total() > 40)
        asyncio.run(upgraded())
        before = load.total()
        until("going on", lambda: load.total() > before + 60)
        cluster.nginx.take_out(cluster.a.port, out=True)
        cluster.a.restart()
        cluster.nginx.take_out(cluster.a.port, out=False)
        before = load.total()
        until("going on", lambda: load.total() > before + 40)
    print(f"\nupgraded under load: {load.report()}")
    assert load.failures == []
    settled(cluster, notebook)


def settled(cluster: Cluster, notebook: str) -> None:
    """Every upload that was accepted becomes ready, and no job is left."""

    def left() -> str:
        return cluster.psql("SELECT count(*) FROM jobs WHERE state IN ('queued', 'leased')")

    until("all jobs are done", lambda: left() == "0")
    assert cluster.psql(f"SELECT count(*) FROM jobs WHERE state = 'failed' AND notebook_id = '{notebook}'") == "0"
