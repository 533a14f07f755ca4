"""Two workers on PostgreSQL, which die at random, and so does the database: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sourcebook.testing.llm_server import FakeLLMServer
from tests.postgres import Postgres, running

from .harness import Server, Torture, environment, proof

KILLS = max(4, int(os.environ.get("SOURCEBOOK_KILLS", "4")) // 3)
SEED = int(os.environ.get("SOURCEBOOK_SEED", "20261125"))

pytestmark = proof


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    yield from running()


@pytest.mark.slow
@pytest.mark.timeout(240 + 30 * KILLS)
def test_workers_and_the_database_die_at_random(tmp_path: Path, own_postgres: Postgres) -> None:
    rng = random.Random(SEED)
    with FakeLLMServer() as fake:
        database = {"SOURCEBOOK_STORAGE__DATABASE": own_postgres.database(), "SOURCEBOOK_JOBS__WORKERS": "0"}
        settings = environment(tmp_path, fake, **database)
        server = Server(tmp_path, settings)
        assert server.command("db", "upgrade").returncode == 0
        workers = [Server(tmp_path, settings, ("worker", "--workers", "2")) for _ in range(2)]
        torture = Torture(server, SEED, fake)
        try:
            torture.begin()
            for worker in workers:
                worker.start()
            for n in range(KILLS):
                for _ in range(rng.randint(2, 6)):
                    torture.operate()
                death = "database" if n % 3 == 2 else "worker"
                if death == "database":
                    (own_postgres.kill if rng.random() < 0.5 else own_postgres.stop)()
                    torture.operate()
                    own_postgres.start()
                else:
                    worker = rng.choice(workers)
                    worker.kill()
                    torture.operate()
                    worker.start()
                torture.counts[f"deaths: {death}"] += 1
            torture.settle()
            assert all(worker.alive for worker in workers)  # they outlive the database
            assert [worker.terminate() for worker in workers] == [0, 0]
        finally:
            for process in (*workers, server):
                process.close()
            print(torture.report())
