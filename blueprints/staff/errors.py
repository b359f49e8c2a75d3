"""The ways loading and importing can fail. Each text is one line for whoever runs the command."""

from __future__ import annotations


class CatalogInvalid(Exception):
    """The catalog file cannot be used, and nothing was written. The text names the key."""


class ImportImpossible(Exception):
    """The export as a whole cannot be imported: unreadable, wrong columns, or no ISP yet."""
