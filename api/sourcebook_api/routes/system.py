"""Plugins and configuration."""

from __future__ import annotations

from sourcebook_api.access import Asking
from sourcebook_api.openapi import api_router
from sourcebook_api.schemas.common import Listing
from sourcebook_api.schemas.system import ConfigurationShown, PluginShown

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
