"""A real server, killed with SIGKILL while it works: what it acknowledged is there, and nothing else is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sourcebook.failpoints import NAMES
from sourcebook.testing.llm_server import FakeLLMServer

from .harness import Server, Torture, environment

KILLS = int(os.environ.get("SOURCEBOOK_KILLS", "5"))
SEED = int(os.environ.get("SOURCEBOOK_SEED", "20261125"))
EVERY = 20  # rounds between two settlings


@pytest.mark.slow
@pytest.mark.timeout(240 + 30 * KILLS)
def test_nothing_is_lost_nothing_lingers_and_nothing_is_paid_twice_whatever_is_killed(tmp_path: Path) -> None:
    """`make torture KILLS=1000`; SOURCEBOOK_SEED plays a run again."""
    with FakeLLMServer() as fake:
        server = Server(tmp_path, environment(tmp_path, fake))
        torture = Torture(server, SEED, fake, tmp_path / "data" / "retrievers" / "qdrant")
        try:
            torture.begin()
            while deaths(torture) < KILLS:
                torture.round()
                if torture.counts["rounds"] % EVERY == 0:
                    torture.settle()
                    print(torture.report(), flush=True)
            torture.settle()
        finally:
            server.close()
            print(torture.report())


def deaths(torture: Torture) -> int:
    return sum(n for what, n in torture.counts.items() if what.startswith("deaths"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(KILLS < 25, reason="SOURCEBOOK_KILLS=25 and more dies at every failpoint by name")
def test_death_at_every_named_place_is_made_good(tmp_path: Path) -> None:
    """Each with SOURCEBOOK_KILLS=50 and more; every third in the ordinary run."""
    names = NAMES if KILLS >= 50 else NAMES[SEED % 3 :: 3]
    with FakeLLMServer() as fake:
        server = Server(tmp_path, environment(tmp_path, fake))
        torture = Torture(server, SEED, fake)
        try:
            torture.begin()
            for _ in range(7):
                torture.operate()
            for name in names:
                server.kill()
                torture.counts["deaths: server"] += 1
                server.start(f"{name}=kill:1")
                while server.alive:
                    torture.operate()
                    time.sleep(0.05)  # time for jobs: deletions get four claims of five, and uploads need some too
                torture.counts[f"deaths: failpoint {name}"] += 1
                server.start()
                torture.check()
            torture.settle()
        finally:
            server.close()
            print(torture.report())
