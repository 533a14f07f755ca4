"""Several processes on one port, one SQLite file and one embedded index: `[server] workers`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sourcebook.configuration import load
from sourcebook.errors import ConfigError
from sourcebook.testing.llm_server import FakeLLMServer, Hold
from sourcebook_api.server import serve

from .support import events
from .test_reload import entries
from .test_server import open_stream, process, state_of, stops, until

SEVERAL = """
server.workers = 3
runs = {grace = 20.0}
retrievers.qdrant = {idle_seconds = 0}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the test looks for processes in /proc"),
]


def children(of: int) -> set[int]:
    """The processes that this one has forked and not buried."""
    return {int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def elsewhere(url: str) -> Iterator[httpx.Client]:
    """A connection to a process that makes no run, while another makes one."""
    for _ in range(200):
        with httpx.Client(base_url=url, timeout=20) as client:
            if "\nsourcebook_open_runs 0.0" in client.get("/metrics").text:
                yield client
                return
    raise AssertionError("every connection leads to the process that makes the run")


def test_a_run_is_followed_and_cancelled_through_another_process(tmp_path: Path) -> None:
    with (
        FakeLLMServer() as llm,
        process(tmp_path, llm, SEVERAL) as (_, url),
        open_stream(url, llm) as (first, coming),
        elsewhere(url) as other,
    ):
        run = first.data["run_id"]
        with other.stream("GET", f"/api/v1/runs/{run}/events") as answer:
            followed = events(answer)
            assert next(e for e in followed if e.type == "content").data["delta"] == "Ten "
            with elsewhere(url) as third:
                assert third.post(f"/api/v1/runs/{run}/cancel").status_code < 300
            last = list(followed)[-1]
        assert (last.type, last.data["finish"], last.data["text"]) == ("done", "cancelled", "Ten ")
        assert list(coming)[-1].data == last.data


def test_all_of_them_ingest_and_search_one_folder(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm, SEVERAL) as (running, url):
        assert len(children(running.pid)) == 3
        notebook = httpx.post(f"{url}/api/v1/notebooks", json={"title": "x"}).json()["id"]
        made = []
        for n in range(12):  # a connection each
            text = f"The lamp number{n} is green.".encode()
            made.append(httpx.put(f"{url}/api/v1/notebooks/{notebook}/sources/{n}.txt", content=text).json()["job_id"])
        until(lambda: all(state_of(tmp_path, job) == "done" for job in made))
        for n in range(12):
            asked = {"question": f"number{n}", "notebooks": [notebook]}
            found = httpx.post(f"{url}/api/v1/search", json=asked).json()["items"]
            assert found[0]["text"] == f"The lamp number{n} is green."
        running.send_signal(signal.SIGTERM)
        assert running.wait(40) == 0


def test_one_that_dies_is_replaced_while_the_others_serve(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm, SEVERAL) as (running, url):
        before = children(running.pid)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        until(lambda: not alive(killed))
        for _ in range(5):
            assert httpx.get(f"{url}/readyz").status_code == 200
        until(lambda: killed not in children(running.pid) and len(children(running.pid)) == 3)
        assert killed not in children(running.pid)
        assert before - {killed} < children(running.pid)
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_reload_reaches_all_of_them(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm, SEVERAL) as (running, url):
        main = tmp_path / "sourcebook.toml"
        main.write_text(main.read_text() + "limits.in_flight = 99\n")
        running.send_signal(signal.SIGHUP)
        until(lambda: len(entries(tmp_path)) == 3)
        assert [e["changed"] for e in entries(tmp_path)] == [["limits.in_flight"]] * 3
        main.write_text(main.read_text().replace("in_flight = 99", "in_flight = 98"))
        done = httpx.post(f"{url}/api/v1/config/reload")
        assert done.json()["changed"] == ["limits.in_flight"]
        until(lambda: len(entries(tmp_path)) == 6)
        assert sorted(len(e["changed"]) for e in entries(tmp_path)[3:]) == [0, 1, 1]
        # One that comes later has what the others went over to.
        killed = min(children(running.pid))
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in children(running.pid) and len(children(running.pid)) == 3)
        running.send_signal(signal.SIGHUP)
        until(lambda: len(entries(tmp_path)) == 9)
        assert [e["changed"] for e in entries(tmp_path)[6:]] == [[]] * 3


def test_sigterm_drains_all_of_them(tmp_path: Path) -> None:
    hold = Hold()
    with (
        FakeLLMServer() as llm,
        process(tmp_path, llm, SEVERAL) as (running, url),
        open_stream(url, llm, hold) as (_, coming),
    ):
        mine = children(running.pid)
        running.send_signal(signal.SIGTERM)
        until(lambda: len(children(running.pid)) == 1)  # those that make no answer are gone
        stops(url)
        hold.release()
        assert list(coming)[-1].data["text"] == "Ten it is."
        assert running.wait(40) == 0
        assert not any(map(alive, mine))


def test_when_the_supervisor_is_killed_the_others_end(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm, SEVERAL) as (running, _):
        mine = children(running.pid)
        running.kill()
        until(lambda: not any(map(alive, mine)))


def test_a_setting_that_keeps_them_from_starting_ends_all(tmp_path: Path) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text(f'[storage]\npath = "{tmp_path / "data"}"\n[server]\nport = 0\n[llms.a]\nuse = "ghost"\n')
    command = [sys.executable, "-m", "sourcebook_api", "--config", str(main), "serve", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "No active plugin has the llm 'ghost'" in done.stderr


def test_a_log_in_memory_is_refused_by_name(tmp_path: Path) -> None:
    overrides = {"storage": {"path": str(tmp_path)}, "server": {"workers": 2, "port": 0}, "runs": {"log": "memory"}}
    with pytest.raises(ConfigError, match=r"runs\.log: .* one's own") as refused:
        serve(load(environ={}, overrides=overrides))
    assert "sql" in refused.value.remedy


def test_what_they_count_is_told_together_by_any_of_them(tmp_path: Path) -> None:
    with FakeLLMServer() as llm, process(tmp_path, llm, SEVERAL) as (running, url):
        notebook = httpx.post(f"{url}/api/v1/notebooks", json={"title": "x"}).json()["id"]
        for _ in range(20):  # a connection each
            httpx.post(f"{url}/api/v1/search", json={"question": "x", "notebooks": [notebook]})

        def counted() -> str:
            lines = httpx.get(f"{url}/metrics").text.splitlines()
            return next(line for line in lines if line.startswith("sourcebook_empty_retrievals_total"))

        told = {counted() for _ in range(8)}
        assert len(told) == 1
        assert told != {"sourcebook_empty_retrievals_total 0.0"}
        killed = min(children(running.pid))
        os.kill(killed, signal.SIGKILL)
        until(lambda: not alive(killed))
        assert {counted()} == told
