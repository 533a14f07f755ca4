"""Everything that is wrong with a configuration, at once: in its layers, its instances, its pipelines and templates."""

from __future__ import annotations

from collections.abc import Sequence

from sourcebook.config_errors import issue, line_of, raise_all
from sourcebook.configuration import Configuration
from sourcebook.errors import ConfigError, SourcebookError
from sourcebook.pipelines import Pipelines
from sourcebook.settings import Settings


def check(configuration: Configuration, wrong: Sequence[ConfigError], pipelines: Pipelines) -> None:
    """Raise one `ConfigError` for all mistakes; `wrong` are those that `configuration.read` has found.

    What hangs on a key that is wrong is not judged: the plugins' components, where `[plugins]` is. Opens nothing.
    """
    told = {issue["key"] for error in wrong for issue in error.details["issues"]}
    unknown = any(key.partition(".")[0] == "plugins" for key in told)
    found = [] if unknown else pipelines.mistakes(told)
    database = _database(configuration)
    raise_all([*wrong, *database, *found, *_templates(configuration), *several(configuration.settings)])


def several(settings: Settings) -> list[SourcebookError]:
    """What keeps several processes from serving together."""
    if settings.server.workers == 1 or settings.runs.log != "memory":
        return []
    message = 'with several [server] workers, a run is followed through any of them, and log = "memory" is one\'s own.'
    remedy = 'Leave it at "auto", or set it to "sql".'
    return [ConfigError(f"runs.log: {message}", remedy=remedy, issues=[{"key": "runs.log", "message": message}])]


def _database(configuration: Configuration) -> list[SourcebookError]:
    """A URL that begins well may still be none; who has no database of their own need not load SQLAlchemy."""
    if not configuration.settings.storage.database:
        return []
    from sourcebook.database.engine import url_of

    try:
        url_of(configuration.settings.storage.database)
    except ConfigError as error:
        found = issue("storage.database", configuration.origins, error.detail.partition(": ")[2])
        return [ConfigError(line_of(found), remedy=error.remedy, issues=[found])]
    return []


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
            found = issue(f"pipelines.{name}.prompts", configuration.origins, error.detail)
            said = f"{found['origin']}: pipelines.{name}.{error.detail}"
            wrong.setdefault(error.detail, ConfigError(said, remedy=error.remedy, issues=[found]))
    return list(wrong.values())
