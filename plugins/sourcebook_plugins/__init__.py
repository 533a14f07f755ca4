"""The built-in plugins: they register as a third party does and have no privilege."""
