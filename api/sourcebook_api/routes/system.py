"""Plugins and configuration."""

from __future__ import annotations

from sourcebook.errors import ConfigError, InvalidInput
from sourcebook_api.access import Asking
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.common import Listing
from sourcebook_api.schemas.system import ConfigurationReloaded, ConfigurationShown, PluginShown

router = api_router("server")


@router.get("/plugins")
async def list_plugins(asking: Asking) -> Listing[PluginShown]:
    """Every plugin that is installed: what it adds, or why it is off."""
    return Listing[PluginShown](items=[PluginShown.model_validate(i) for i in asking.book.plugins.shown()])


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
