"""Logs: one line a record in either form, with the ids of what it was written for, and no secret in it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from sourcebook.about import about, ids
from sourcebook.configuration import Configuration, load
from sourcebook.errors import SourcebookError
from sourcebook.events import Text
from sourcebook.gathering import Gathering
from sourcebook.hookspecs import hookimpl
from sourcebook.logs import OURS
from tests.logged import logged

from .support import Store, furnished

SECRET = "canary-0a8b77"
log = logging.getLogger("sourcebook.tests")


def configured(form: str = "json", **more: Any) -> Configuration:
    return load(environ={}, overrides={"logging": {"format": form, **more}})


def test_a_line_of_json_has_time_level_logger_message_and_ids() -> None:
    with logged(configured()) as seen, about(request_id="req_1"), about(run_id="run_2", job_id=None):
        log.warning("%d of %s", 2, "them", extra={"fields": {"seconds": 0.5}})
    (line,) = seen.lines
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "sourcebook.tests",
        "message": "2 of them",
        "request_id": "req_1",
        "run_id": "run_2",
        "seconds": 0.5,
    }


def test_a_traceback_is_a_field_of_its_line() -> None:
    with logged(configured()) as seen:
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("it failed")
    (line,) = seen.lines
    assert line["error"].endswith("ValueError: why")


@pytest.mark.parametrize("hostile", ["a\nFAKE sourcebook: b", "a\r\x1b[2Kb", "a\u2028b", "\ud800", "\x85"], ids=ascii)
def test_no_record_can_write_another_line(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own cannot pass every character on
    for form in ("console", "json"):
        with logged(configured(form)) as seen, about(request_id=hostile):
            log.error("%s", hostile, extra={"fields": {"name": hostile}})
        assert len(seen.getvalue().splitlines()) == 1
        assert "\x1b" not in seen.getvalue()


def test_the_level_is_for_ours_and_others_are_heard_from_warning_on() -> None:
    with logged(configured(level="debug", levels={"sourcebook.loud": "error", "elsewhere.deep": "debug"})) as seen:
        for name in (*OURS, "sourcebook.loud", "elsewhere", "elsewhere.deep"):
            logging.getLogger(name).debug("fine")
        logging.getLogger("elsewhere").warning("heard")
        logging.getLogger("sourcebook.loud.below").warning("not heard")
    assert [line["logger"] for line in seen.lines] == [*OURS, "elsewhere.deep", "elsewhere"]


def test_another_configuration_takes_the_place_of_the_first() -> None:
    with logged(configured(levels={"sourcebook.loud": "error"})) as first, logged(configured("console")) as second:
        logging.getLogger("sourcebook.loud").info("now")
    assert first.getvalue() == ""
    assert second.getvalue().endswith("INFO    sourcebook.loud: now\n")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_configured_secret_is_masked_whoever_logs_it(tmp_path: Path, form: str) -> None:
    main = tmp_path / "sourcebook.toml"
    main.write_text(
        f'[storage]\ndatabase = "postgresql+psycopg://me:{SECRET}%2f1@db/book"\n[logging]\nformat="{form}"\n'
    )
    (tmp_path / "secrets.toml").write_text(
        f'[llms.mine]\nuse = "openai"\napi_key = "{SECRET}-2"\nheaders = {{"X-Key" = "Bearer {SECRET}-3"}}\n'
    )
    with logged(load(main, {})) as seen:
        try:
            raise ValueError(f"key {SECRET}-2")
        except ValueError:
            logging.getLogger("elsewhere").exception("sent %s", {"authorization": f"{SECRET}-3"})
        log.warning("%s/1", SECRET, extra={"fields": {"address": f"postgresql://me:{SECRET}%2f1@db/book"}})
    assert SECRET not in seen.getvalue()
    assert "********" in seen.getvalue()


def test_ids_go_along_into_tasks_and_threads_and_stay_apart() -> None:
    async def one(n: int) -> dict[str, str]:
        with about(job_id=f"job_{n}"):
            await asyncio.sleep(0)
            return dict(await asyncio.create_task(asyncio.to_thread(ids)))

    async def main() -> list[dict[str, str]]:
        return list(await asyncio.gather(*(one(n) for n in range(5))))

    assert asyncio.run(main()) == [{"job_id": f"job_{n}"} for n in range(5)]
    assert ids() == {}


def test_a_call_for_one_carries_its_ids_and_a_shared_one_nobodys() -> None:
    seen: list[tuple[int, dict[str, str]]] = []

    async def call(items: Any) -> Any:
        seen.append((len(items), dict(ids())))
        await asyncio.sleep(0)
        return items

    async def one(gathering: Gathering[int, int], n: int) -> None:
        with about(job_id=f"job_{n}"):
            await gathering.submit(n)

    async def main() -> None:
        gathering: Gathering[int, int] = Gathering(call, 10)
        await one(gathering, 0)
        await asyncio.gather(one(gathering, 1), one(gathering, 2))

    asyncio.run(main())
    assert seen == [(1, {"job_id": "job_0"}), (2, {})]


class Failing:
    """A plugin whose hook never works."""

    @hookimpl
    async def refine_query(self, question: str, queries: tuple[str, ...]) -> None:
        raise RuntimeError("no")


def test_what_fails_in_a_run_or_a_job_is_logged_with_its_ids(store: Store) -> None:
    async def main() -> tuple[str, str, str]:
        async with furnished(store, plugins=(Failing(),)) as room:
            source_id = await room.add("a.txt", "Roses.")

            async def broken(*_: Any) -> None:
                raise SourcebookError("It is down.")

            room.index.flush = broken  # type: ignore[method-assign]
            job = await room.step()
            assert job is not None
            run = await room.book.ask(room.me, "Why?", [room.notebook.id])
            async for _ in run.follow():
                pass
            return source_id, job.id, run.id

    with logged(configured()) as seen:
        source_id, job_id, run_id = asyncio.run(main())
    failed = next(line for line in seen.of("sourcebook.ingestion") if "failed" in line["message"])
    assert (failed["source_id"], failed["job_id"]) == (source_id, job_id)
    skipped = next(line for line in seen.of("sourcebook.hook_calls") if "skipped" in line["message"])
    assert skipped["run_id"] == run_id
    assert "job_id" not in skipped


def test_what_serves_all_carries_the_ids_of_none(store: Store) -> None:
    """Tasks that the first run, or the first request, happens to begin."""

    async def broken(*_: Any, **__: Any) -> None:
        raise SourcebookError("It is down.")

    async def main() -> None:
        async with furnished(store, jobs={"poll": 0.05}) as room:
            room.book.runs._log._write = broken  # type: ignore[method-assign]
            room.book.jobs.claim_some = broken  # type: ignore[method-assign, assignment]
            with about(request_id="req_1"):
                room.book._worker.keep()
                room.llm.script = [[Text("Yes"), asyncio.Event()]]
                run = await room.book.ask(room.me, "Why?", [room.notebook.id])
                for _ in range(200):
                    if seen.of("sourcebook.run_log") and seen.of("sourcebook.workers"):
                        break
                    await asyncio.sleep(0.05)
                await run.cancel("asked")

    with logged(configured()) as seen:
        asyncio.run(main())
    for line in (seen.of("sourcebook.run_log")[0], seen.of("sourcebook.workers")[0]):
        assert not {"request_id", "run_id"} & set(line), line
