"""Names in a configuration that only the plugins know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sourcebook.configuration import load
from sourcebook.hookspecs import hookimpl
from sourcebook.http import Http
from sourcebook.interfaces import ComponentSettings, Retriever, SearchQuery
from sourcebook.pipelines import Pipelines
from sourcebook.plugins import PluginInfo, Plugins


class Links(Retriever[ComponentSettings]):
    """A stranger's retriever, whose legs only the stranger knows."""

    name = "links"
    Settings = ComponentSettings

    async def search(self, query: SearchQuery) -> dict[str, list[Any]]:
        return {}


class Acme:
    """Its plugin."""

    @hookimpl
    def register_retrievers(self) -> list[type[Any]]:
        return [Links]


def mistakes(folder: Path, **sections: Any) -> list[str]:
    """What is wrong with these settings where `Acme` is installed."""
    configuration = load(environ={}, overrides=sections)
    plugins = Plugins(configuration.settings.plugins)
    plugins.load()
    plugins.add(Acme(), PluginInfo("acme-links", "acme-links", "1.0", "off"))
    pipelines = Pipelines(plugins, configuration, folder, Http())
    return [issue["message"] for error in pipelines.mistakes() for issue in error.details["issues"]]


def searched(retrievers: list[str], **search: Any) -> dict[str, Any]:
    """A pipeline of these retrievers."""
    return {"default": {"retrievers": retrievers, "search": search}}


@pytest.mark.parametrize("leg", ["cited", "cited:twice@links", "dense:any@mine"])
def test_a_strangers_retriever_calls_its_legs_as_it_likes(tmp_path: Path, leg: str) -> None:
    mine = {"mine": {"use": "qdrant"}}
    pipelines = searched(["mine", "links"], weights={leg: 2.0}, relevance={leg.partition(":")[0]: 0.1})
    assert mistakes(tmp_path, pipelines=pipelines, retrievers=mine) == []


def test_whatever_a_leg_is_called_its_retriever_is_one_of_the_pipelines(tmp_path: Path) -> None:
    (said,) = mistakes(tmp_path, pipelines=searched(["qdrant", "links"], weights={"cited@linx": 2.0}))
    assert said == "'cited@linx' names no retriever of this pipeline; did you mean 'links'?"


def test_a_renamed_retriever_of_ours_has_the_legs_that_ours_have(tmp_path: Path) -> None:
    pipelines = searched(["mine"], weights={"cited": 2.0, "lexical@mine": 0.5})
    (said,) = mistakes(tmp_path, pipelines=pipelines, retrievers={"mine": {"use": "qdrant"}})
    assert said == "there is no leg 'cited'; there are: dense, lexical"


def test_a_plugin_of_a_stranger_may_be_mounted_and_is_not_switched_off_by_disabled(tmp_path: Path) -> None:
    assert mistakes(tmp_path, plugins={"mount": {"acme-links": "/links"}}) == []
    (said,) = mistakes(tmp_path, plugins={"disabled": ["acme-links"]})
    assert said == "'acme-links' did not come with Sourcebook: take it out of [plugins] enabled instead"
