"""Routers by an existing GenieACS, over the HTTP interface that it has for other programs (NBI)."""
