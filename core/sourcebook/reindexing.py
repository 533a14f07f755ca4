"""A notebook's way to another index spec: built beside the old one, switched in one transaction, undone at will.

    building   every source gets a generation under the new spec, by ingest jobs of low priority; the old one answers
    switched   `notebooks.index_spec_id` is the new spec; the old generations are kept for a rollback
    dropped    the old generations are gone

Each source's generation is one ingest job with its own checkpoints, and the `reindex` job only plans, waits and
switches. So a kill at any moment costs what lies between two checkpoints, and nothing is ever half switched.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import generations, notebooks, reindexes, sources
from sourcebook.dropping import Dropping
from sourcebook.errors import Conflict, Lost, SourcebookError
from sourcebook.estimating import Estimate, Estimator
from sourcebook.ids import new_id
from sourcebook.jobs import Job, Jobs
from sourcebook.notebooks import Notebook, Notebooks, notebook_of, pin_spec
from sourcebook.owners import Principal
from sourcebook.pipelines import Pipelines
from sourcebook.reindex_queries import FINAL, is_live, missing
from sourcebook.specs import Specs, changes

log = logging.getLogger(__name__)

_SOURCES = 50  # planned in one transaction
_NAMED = 10  # sources that a problem names
_LATER = -1  # priority: what people upload goes first


@dataclass(frozen=True)
class Reindex:
    """One way, as it stands. `state`: building, switched, failed, cancelled, rolled_back or dropped."""

    id: str
    notebook_id: str
    from_spec_id: str
    to_spec_id: str
    pipeline: str
    state: str
    job_id: str
    estimate: Mapping[str, Any]
    problem: Mapping[str, Any] | None
    created_at: datetime
    switched_at: datetime | None
    finished_at: datetime | None


class Reindexing:
    """Starts reindexes, and does their `reindex` jobs."""

    def __init__(
        self,
        database: Database,
        queue: Jobs,
        shelf: Notebooks,
        pipelines: Pipelines,
        specs: Specs,
        dropping: Dropping,
    ) -> None:
        self._db = database
        self._jobs = queue
        self._notebooks = shelf
        self._pipelines = pipelines
        self._specs = specs
        self._dropping = dropping
        self._estimator = Estimator(database, pipelines, specs, queue.options.batch)

    # What is asked for.

    async def latest(self, notebook_id: str) -> Reindex | None:
        """The newest one of a notebook."""
        query = sa.select(reindexes).where(reindexes.c.notebook_id == notebook_id).order_by(reindexes.c.id.desc())
        async with self._db.read() as c:
            row = (await c.execute(query.limit(1))).mappings().first()
        return _reindex(row) if row else None

    async def estimate(self, notebook: Notebook, pipeline: str = "") -> Estimate:
        """What `start` with the same arguments would cost. Changes nothing."""
        return await self._estimator.of(notebook, await self._target(notebook, pipeline or notebook.pipeline))

    async def start(
        self, principal: Principal, notebook: Notebook, *, pipeline: str = "", skip_failed: bool = False
    ) -> Reindex:
        """Begin to build, or go on with what failed. With `pipeline` the notebook moves to that one at the switch.

        `skip_failed` switches although sources that are ready now cannot be built. Raises `Conflict`: code `not_stale`
        where there is nothing to do, `reindexing` while another spec is being built.
        """
        notebook = await self._notebooks.get(principal, notebook.id, "write")
        name = pipeline or notebook.pipeline
        spec = await self._target(notebook, name)
        estimate = await self._estimator.of(notebook, spec)
        async with self._db.write() as c:
            to = await pin_spec(c, spec)
            if to == notebook.index_spec_id and name == notebook.pipeline:
                raise Conflict(f"The notebook {notebook.title!r} is up to date.", code="not_stale")
            return await self._begin(c, principal, notebook, to, name, asdict(estimate), skip_failed)

    async def rollback(self, principal: Principal, notebook: Notebook) -> Reindex:
        """Go back to the spec before the last switch, at once where every source is still there under it.

        Sources that came later are built under it first. Raises `Conflict` (code `no_rollback`) where it was dropped.
        """
        notebook = await self._notebooks.get(principal, notebook.id, "write")
        last = await self.latest(notebook.id)
        if last is None or last.state != "switched" or last.to_spec_id != notebook.index_spec_id:
            raise Conflict(
                "There is nothing to roll back to: no reindex was switched, or the passages before it are gone.",
                code="no_rollback",
            )
        async with self._db.write() as c:
            await c.execute(_of(last.id).values(state="rolled_back", finished_at=now()))
            return await self._begin(
                c, principal, notebook, last.from_spec_id, last.estimate.get("from_pipeline", last.pipeline), {}, True
            )

    async def cancel(self, principal: Principal, notebook: Notebook) -> Reindex:
        """Stop building and remove what was built. Raises `Conflict` (code `not_reindexing`)."""
        notebook = await self._notebooks.get(principal, notebook.id, "write")
        last = await self.latest(notebook.id)
        if last is None or last.state not in ("building", "failed"):
            raise Conflict("This notebook is not being reindexed.", code="not_reindexing")
        async with self._db.write() as c:
            await c.execute(_of(last.id).values(state="cancelled", finished_at=now()))
            await self._dropping.enqueue(c, principal.owner_id, notebook.id, last.to_spec_id)
        found = await self.latest(notebook.id)
        assert found is not None
        return found

    async def drop(self, principal: Principal, notebook: Notebook) -> str:
        """Remove the generations before the last switch now; the job's id. Raises `Conflict` (code `no_rollback`)."""
        notebook = await self._notebooks.get(principal, notebook.id, "write")
        last = await self.latest(notebook.id)
        if last is None or last.state != "switched":
            raise Conflict("Nothing is kept of an earlier index of this notebook.", code="no_rollback")
        async with self._db.write() as c:
            return await self._dropping.enqueue(c, principal.owner_id, notebook.id, last.from_spec_id, last.id)

    async def automatic(self) -> int:
        """Start those of pipelines with `reindex = "auto"`, but for what somebody rolled back; how many."""
        names = [p.name for p in self._pipelines if p.settings.reindex == "auto"]
        alive = sa.select(notebooks).where(notebooks.c.pipeline.in_(names), notebooks.c.deleted_at.is_(None))
        async with self._db.read() as c:
            rows = (await c.execute(alive)).mappings().all()
        found = [notebook_of(row) for row in rows]
        standings = await self._specs.standing(found)
        started = 0
        for notebook in found:
            if standings[notebook.id].stale and not await self._was_refused(notebook):
                everything = Principal(notebook.owner_id, notebook.owner_id, frozenset({"read", "write"}))
                try:
                    await self.start(everything, notebook)
                    started += 1
                except SourcebookError as error:
                    log.warning("notebook %s is not reindexed: %s", notebook.id, error.detail)
        return started

    async def _was_refused(self, notebook: Notebook) -> bool:
        last = await self.latest(notebook.id)
        if last is None or last.state == "building":
            return False
        # After a rollback the row before the last says so; what failed or was cancelled waits for a person too.
        states = ("rolled_back", "cancelled", "failed")
        query = sa.select(reindexes.c.to_spec_id).where(
            reindexes.c.notebook_id == notebook.id, reindexes.c.state.in_(states)
        )
        async with self._db.read() as c:
            refused = set((await c.execute(query)).scalars())
        current = self._pipelines[notebook.pipeline].spec
        return any([not changes(await self._specs.get(spec_id), current) for spec_id in refused])

    async def _target(self, notebook: Notebook, pipeline: str) -> Mapping[str, Any]:
        """The spec to build. A parser's new version is no part of one, so it is told apart by what reads today."""
        spec = self._pipelines[pipeline].spec
        standing = (await self._specs.standing([notebook]))[notebook.id]
        pinned = await self._specs.get(notebook.index_spec_id)
        if "parsers" in standing.changed and not changes(pinned, spec):
            return {**spec, "read_with": sorted(self._pipelines.parser_identities())}
        return spec if changes(pinned, spec) else pinned

    async def _begin(
        self,
        c: AsyncConnection,
        principal: Principal,
        notebook: Notebook,
        to: str,
        pipeline: str,
        estimate: Mapping[str, Any],
        skip_failed: bool,
    ) -> Reindex:
        """A row and its job, or the row that is building the same already; one that failed begins again."""
        building = sa.select(reindexes).where(reindexes.c.notebook_id == notebook.id, reindexes.c.state == "building")
        found = (await c.execute(building)).mappings().first()
        if found is not None:
            if found["to_spec_id"] == to:
                return _reindex(found)
            raise Conflict("This notebook is being reindexed for another pipeline.", code="reindexing")
        await self._again(c, notebook.id, to, pipeline)
        reindex_id = new_id("rdx")
        payload = {"reindex": reindex_id, "skip_failed": skip_failed}
        # No more urgent than the jobs that it waits for: by their times it comes after them.
        job_id = await self._jobs.add(
            c, "reindex", principal.owner_id, notebook_id=notebook.id, payload=payload, priority=_LATER
        )
        row = {
            "id": reindex_id,
            "notebook_id": notebook.id,
            "from_spec_id": notebook.index_spec_id,
            "to_spec_id": to,
            "pipeline": pipeline,
            "state": "building",
            "job_id": job_id,
            "estimate": {**estimate, "from_pipeline": notebook.pipeline},
            "created_at": now(),
        }
        await c.execute(reindexes.insert().values(**row))
        return _reindex({**row, "problem": None, "switched_at": None, "finished_at": None})

    async def _again(self, c: AsyncConnection, notebook_id: str, to: str, pipeline: str) -> None:
        """What failed under this spec before is tried once more."""
        failed = (
            sa.select(generations.c.id, generations.c.source_id, notebooks.c.owner_id)
            .join(sources, sources.c.id == generations.c.source_id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .where(
                sources.c.notebook_id == notebook_id,
                sources.c.deleted_at.is_(None),
                generations.c.index_spec_id == to,
                generations.c.state == "failed",
            )
        )
        for generation_id, source_id, owner_id in (await c.execute(failed)).all():
            fresh = {"state": "queued", "problem": None}
            await c.execute(generations.update().where(generations.c.id == generation_id).values(**fresh))
            of = {"notebook_id": notebook_id, "source_id": source_id, "generation_id": generation_id}
            await self._jobs.add(c, "ingest", owner_id, payload={"pipeline": pipeline}, priority=_LATER, **of)

    # What its job does.

    async def build(self, job: Job) -> None:
        """One look: plan what is new, then either come back later or switch."""
        row = await self._row(str(job.payload["reindex"]))
        if row is None or row.state != "building":
            async with self._db.write() as c:
                await self._jobs.finish(c, job)
            return
        await self._plan(job, row)
        async with self._db.write() as c:
            done, total, blocked = await self._progress(c, row)
            progress = {"stage": "building", "done": done, "total": total, **row.estimate}
            job = await self._jobs.save(c, job, {"progress": progress})
            if done < total or (await c.execute(missing(row).limit(1))).first() is not None:
                await self._jobs.postpone(c, job, self._jobs.options.poll)
                return
            if blocked and not job.payload.get("skip_failed"):
                raise _blocked(blocked)
            await self._switch(c, job, row)

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """The old index goes on answering; whoever looks is told why."""
        try:
            async with self._db.write() as c:
                if await self._jobs.fail(c, job, error):
                    row = _of(str(job.payload["reindex"])).where(reindexes.c.state == "building")
                    await c.execute(row.values(state="failed", problem=error.problem(), finished_at=now()))
        except Lost:
            await self._jobs.cancelled(job)

    async def _row(self, reindex_id: str) -> Reindex | None:
        """Of a notebook that is still there."""
        alive = sa.and_(notebooks.c.id == reindexes.c.notebook_id, notebooks.c.deleted_at.is_(None))
        query = sa.select(reindexes).join(notebooks, alive).where(reindexes.c.id == reindex_id)
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        return _reindex(row) if row else None

    async def _plan(self, job: Job, row: Reindex) -> None:
        """A generation and a job for every source that has none under the new spec, and whose old one has ended."""
        differs = changes(await self._specs.get(row.from_spec_id), await self._specs.get(row.to_spec_id))
        keeps_cuts, today = not {"chunker", "parsers"} & set(differs), self._pipelines.parser_identities()
        while True:
            async with self._db.write() as c:
                await self._jobs.save(c, job)
                found = (await c.execute(missing(row).limit(_SOURCES))).all()
                best = {source_id: rest for source_id, *rest in reversed(found)}
                for source_id, (owner_id, old_id, state, parser) in best.items():
                    generation_id = new_id("gen")
                    values = {"id": generation_id, "source_id": source_id, "index_spec_id": row.to_spec_id}
                    await c.execute(generations.insert().values(state="queued", created_at=now(), **values))
                    payload = {"pipeline": row.pipeline}
                    if keeps_cuts and state == "ready" and parser in today:
                        payload["copy_from"] = old_id
                    of = {"notebook_id": row.notebook_id, "source_id": source_id, "generation_id": generation_id}
                    await self._jobs.add(c, "ingest", owner_id, payload=payload, priority=_LATER, **of)
            if len(found) < _SOURCES:
                return

    async def _progress(self, c: AsyncConnection, row: Reindex) -> tuple[int, int, list[tuple[str, str]]]:
        """Sources whose new generation has ended, all sources, and those that were ready and are not any more."""
        query = (
            sa.select(sources.c.id, sources.c.name, generations.c.index_spec_id, generations.c.state)
            .outerjoin(generations, sa.and_(generations.c.source_id == sources.c.id, is_live(row)))
            .where(sources.c.notebook_id == row.notebook_id, sources.c.deleted_at.is_(None))
        )
        names: dict[str, str] = {}
        old: dict[str, set[str]] = {}
        new: dict[str, set[str]] = {}
        for source_id, name, spec_id, state in (await c.execute(query)).all():
            names[source_id] = name
            (new if spec_id == row.to_spec_id else old).setdefault(source_id, set()).add(state or "")
        # One that is being read again under the old spec may bring new bytes.
        ended = [i for i, states in new.items() if states | old.get(i, set()) <= set(FINAL)]
        blocked = [(i, names[i]) for i in ended if "ready" in old.get(i, ()) and "ready" not in new[i]]
        return len(ended), len(names), blocked

    async def _switch(self, c: AsyncConnection, job: Job, row: Reindex) -> None:
        """The notebook's one row decides: before it the old index answers, after it the new one."""
        fresh = {"index_spec_id": row.to_spec_id, "pipeline": row.pipeline}
        of = sa.and_(notebooks.c.id == row.notebook_id, notebooks.c.index_spec_id == row.from_spec_id)
        done = await c.execute(notebooks.update().where(of).values(**fresh))
        if done.rowcount != 1:
            raise SourcebookError("The notebook was switched by something else meanwhile.", code="reindex_overtaken")
        earlier = sa.select(reindexes.c.id, reindexes.c.from_spec_id).where(
            reindexes.c.notebook_id == row.notebook_id, reindexes.c.state == "switched"
        )
        for reindex_id, spec_id in (await c.execute(earlier)).all():
            await self._dropping.enqueue(c, job.owner_id, row.notebook_id, spec_id, reindex_id)
        await c.execute(_of(row.id).values(state="switched", switched_at=now()))
        later = now() + timedelta(seconds=self._jobs.options.keep_replaced)
        await self._dropping.enqueue(c, job.owner_id, row.notebook_id, row.from_spec_id, row.id, run_at=later)
        await self._jobs.finish(c, job)
        log.info("notebook %s answers from index spec %s", row.notebook_id, row.to_spec_id)


def _blocked(sources_: list[tuple[str, str]]) -> SourcebookError:
    names = ", ".join(repr(name) for _, name in sources_[:_NAMED])
    return SourcebookError(
        f"{len(sources_)} sources that are ready now could not be built under the new index: {names}.",
        code="reindex_incomplete",
        remedy="The old index goes on answering. Start the reindex again to retry them, or with `skip_failed` "
        "(`--skip-failed`) to switch without them.",
        sources=[i for i, _ in sources_[:_NAMED]],
    )


def _of(reindex_id: str) -> sa.Update:
    return reindexes.update().where(reindexes.c.id == reindex_id)


def _reindex(row: Any) -> Reindex:
    return Reindex(**{name: row[name] for name in Reindex.__dataclass_fields__})
