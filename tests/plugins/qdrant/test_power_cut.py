"""What was flushed outlives a power cut: the log is on the disk, and of other files whatever the system had written.

A power cut is a copy of the folder: its log as it was at the last flush, and of every other file, page by page, what
it held then or what it held when all was last settled.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest

from sourcebook_plugins.qdrant import compacting, shard
from sourcebook_plugins.qdrant.compacting import Compactor
from sourcebook_plugins.qdrant.shard import Shard

SIZE, EACH = 16, 20
NOTHING = memoryview(b"")
PAGE = 4096


def point_id(number: int, i: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number}-{i}"))


def add(to: Shard, number: int) -> None:
    """Source `number`, with twenty points."""
    said = {"owner": "o", "notebook": "n", "source": f"s{number}", "generation": "g", "scope": "o/n", "analyzer": "en"}
    points = [[point_id(number, i), {**said, "f": {"n": i}}, f"the tide of {number} turns at {i}"] for i in range(EACH)]
    rows = np.random.default_rng(number).standard_normal((EACH, SIZE)).astype("<f4")
    to.upsert({"vectors": [["x", SIZE]], "points": points}, memoryview(rows.tobytes()))


def change(to: Shard, number: int, by: random.Random) -> None:
    """One write of those that an index gets. (To index a field is none of them: Edge syncs all files when it does.)"""
    of = {"must": [{"key": "source", "match": {"any": [f"s{by.randrange(number)}"]}}]}
    match by.randrange(8):
        case 0:
            to.delete({"filter": of}, NOTHING)
        case 1:
            to.set_fields({"filter": of, "payload": {"f": {"n": -1}}}, NOTHING)
        case 2:
            add(to, by.randrange(number))
        case 3:
            to.remove({"ids": [point_id(by.randrange(number), i) for i in range(EACH)]}, NOTHING)
        case _:
            add(to, number)


def held(by: Shard) -> dict[str, str]:
    """Every point with all that is stored of it."""
    found: dict[str, str] = {}
    offset = None
    while True:
        page = by.dump({"ids": None, "offset": offset, "vectors": True}, NOTHING)
        found |= {row[0]: repr([sorted(row[1].items()), *row[2:]]) for row in page["points"]}
        if (offset := page["next"]) is None:
            return found


def torn(old: Path, new: Path, to: Path, by: random.Random, share: float) -> None:
    """Of the pages of `new` that differ from `old`, `share` were never written."""
    before, after = old.read_bytes(), bytearray(new.read_bytes())
    for at in range(0, min(len(before), len(after)), PAGE):
        if before[at : at + PAGE] != after[at : at + PAGE] and by.random() < share:
            after[at : at + PAGE] = before[at : at + PAGE]
    to.write_bytes(bytes(after))


@pytest.fixture
def filled(tmp_path: Path) -> Shard:
    (tmp_path / "index").mkdir()
    made = Shard(tmp_path / "index")
    made.ensure({"spaces": [{"name": "x", "dimensions": SIZE, "distance": "cosine"}]}, NOTHING)
    for number in range(10):
        add(made, number)
    return made


@pytest.mark.parametrize(("seed", "share"), [(1, 1.0), (2, 0.5), (3, 0.1), (4, 0.5), (5, 0.9)])
def test_what_was_flushed_is_there_whatever_else_was_written(
    tmp_path: Path, filled: Shard, seed: int, share: float
) -> None:
    by = random.Random(seed)
    filled.settle()
    settled, flushed = tmp_path / "settled", tmp_path / "flushed"
    shutil.copytree(filled.folder, settled)
    for number in range(10, 50):
        change(filled, number, by)
    filled.flush({}, NOTHING)
    shutil.copytree(filled.folder, flushed)
    wanted = held(filled)

    for file in (flushed / filled.name / "segments").rglob("*"):
        old = settled / file.relative_to(flushed)
        if old.is_file() and old.read_bytes() != file.read_bytes():
            torn(old, file, file, by, share)
    assert len(held(Shard(settled))) != len(wanted)  # so it is the log that has it
    assert held(Shard(flushed)) == wanted


def test_a_flush_syncs_the_log_alone_until_much_lies_in_it(filled: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.settle()
    synced: list[str] = []
    sync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    add(filled, 10)
    filled.flush({}, NOTHING)
    log = filled.folder / filled.name / "wal"
    assert {str(log), *map(str, log.iterdir())} == set(synced)
    assert filled._unsettled == EACH

    monkeypatch.setattr(shard, "UNSETTLED", 2 * EACH)
    add(filled, 11)
    filled.flush({}, NOTHING)
    assert filled._unsettled == 0


def test_all_files_follow_in_a_pause(filled: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(compacting, "QUIET_SECONDS", 2.0)

    async def run() -> None:
        compactor = Compactor(filled, lambda _: None)
        watching = asyncio.create_task(compactor.watch())
        for number in range(10, 15):
            add(filled, number)
            compactor.wrote({"op": "upsert"}, NOTHING)
            await asyncio.sleep(0.05)
            assert filled._unsettled > 0
        while filled._unsettled:
            await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))
