"""Contract suites and fakes for plugin authors. The suites need pytest; import them by module."""
