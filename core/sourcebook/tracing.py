"""Whether steps are told to an OpenTelemetry collector. Nothing of its is imported where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sourcebook import settings
from sourcebook.errors import ConfigError

if TYPE_CHECKING:
    from sourcebook.tracing_made import OpenTelemetry


def tracer_of(options: settings.Tracing) -> OpenTelemetry | None:
    """What `[tracing]` asks for; None where it names no endpoint. Takes some 100 ms the first time.

    Raises `ConfigError` (code `extra_missing`) where the extra is not installed.
    """
    if not options.endpoint:
        return None
    try:
        from sourcebook.tracing_made import OpenTelemetry
    except ImportError as error:
        raise ConfigError(
            f"tracing.endpoint: traces need a package that is not installed: {error.name}.",
            code="extra_missing",
            remedy="Install the extra: pip install 'sourcebook[otel]'.",
        ) from error
    return OpenTelemetry(options)
