"""Everything that is wrong with a configuration, at once: in its layers, its instances, its pipelines and templates."""

from __future__ import annotations

from collections.abc import Sequence

from sourcebook.configuration import Configuration, origin_of, raise_all
from sourcebook.errors import ConfigError, SourcebookError
from sourcebook.pipelines import Pipelines


def check(configuration: Configuration, wrong: Sequence[ConfigError], pipelines: Pipelines) -> None:
    """Raise one `ConfigError` for all mistakes; `wrong` are those that `configuration.read` has found.

    What hangs on a key that is wrong is not judged: the plugins' components, where `[plugins]` is. Opens nothing.
    """
    told = {issue["key"] for error in wrong for issue in error.details["issues"]}
    unknown = any(key.partition(".")[0] == "plugins" for key in told)
    found = [] if unknown else pipelines.mistakes(told)
    raise_all([*wrong, *found, *_templates(configuration)])


def _templates(configuration: Configuration) -> list[SourcebookError]:
    """The pipelines' own; to load Jinja costs more than all else here, and mostly nobody has any."""
    wrong: dict[str, SourcebookError] = {}
    for name, pipeline in configuration.settings.pipelines.items():
        if not any(pipeline.prompts.model_dump().values()):
            continue
        from sourcebook.prompts import Prompts

        try:
            Prompts(pipeline.prompts)
        except ConfigError as error:
            key = f"pipelines.{name}.prompts"
            origin = origin_of(key, configuration.origins)
            issue = {"key": key, "origin": origin, "message": error.detail}
            named = ConfigError(f"{origin}: pipelines.{name}.{error.detail}", remedy=error.remedy, issues=[issue])
            wrong.setdefault(error.detail, named)
    return list(wrong.values())
