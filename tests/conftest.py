"""Fixtures of every room."""

from .postgres import postgres

__all__ = ["postgres"]
