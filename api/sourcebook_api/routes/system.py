"""Who asks, and what this server is made of."""

from __future__ import annotations

from typing import Any

from sourcebook import __version__
from sourcebook.errors import ConfigError, InvalidInput
from sourcebook.owners import PERMISSIONS
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook_api.access import Asking
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.common import Listing
from sourcebook_api.schemas.system import (
    ComponentShown,
    ConfigurationReloaded,
    ConfigurationShown,
    Me,
    PipelineShown,
    PluginShown,
)

router = api_router("server")


@router.get("/plugins")
async def list_plugins(asking: Asking) -> Listing[PluginShown]:
    """Every plugin that is installed: what it adds, or why it is off."""
    return Listing[PluginShown](items=[PluginShown.model_validate(i) for i in asking.book.plugins.shown()])


@router.get("/pipelines")
async def list_pipelines(asking: Asking) -> Listing[PipelineShown]:
    """The pipelines that notebooks can be made on, with what each is wired from; no settings, which may be secret."""
    pipelines = asking.book.pipelines
    return Listing[PipelineShown](items=[_pipeline(pipelines, p) for p in pipelines])


@router.get("/me")
async def get_me(asking: Asking) -> Me:
    """Whose key this is, and what it may do."""
    principal = asking.principal
    may = [permission for permission in PERMISSIONS if principal.may(permission)]
    return Me(owner=principal.name, permissions=may, local=principal.local, version=__version__)


@router.get("/config")
async def get_config(asking: Asking) -> ConfigurationShown:
    """Every setting and where it came from. Secrets are masked, wherever they were written."""
    configuration = asking.book.configuration
    return ConfigurationShown(
        settings=configuration.shown(),
        origins=dict(configuration.origins),
        files=[str(file) for file in configuration.files],
    )


@router.post("/config/reload", responses=problems(409, 422, 502, 503))
async def reload_config(asking: Asking) -> ConfigurationReloaded:
    """Read the configuration's files again and go over to them whole; SIGHUP does the same.

    Everything is checked and opened first: where anything is wrong, or needs a restart, nothing is changed. New
    answers, searches and jobs take the new configuration; those under way end with the one that they began with.
    """
    try:
        return ConfigurationReloaded.model_validate(await asking.book.reload())
    except ConfigError as error:
        raise InvalidInput(error.detail, code="config_refused", remedy=error.remedy, **error.details) from error


def _pipeline(pipelines: Pipelines, pipeline: Pipeline) -> PipelineShown:
    def named(component: Any) -> ComponentShown | None:
        return ComponentShown(name=component.instance, use=component.name) if component is not None else None

    chunker, _ = pipelines.resolve("chunkers", pipeline.settings.chunker)
    return PipelineShown.model_validate(
        {
            "name": pipeline.name,
            "chunker": ComponentShown(name=pipeline.settings.chunker, use=chunker.name),
            "embedder": named(pipeline.embedder),
            "retrievers": [named(r) for r in pipeline.retrievers],
            "reranker": named(pipeline.reranker),
            "llms": [named(m) for m in pipeline.llms],
            "generates": any(m.generates for m in pipeline.llms),
        }
    )
