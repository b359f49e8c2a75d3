"""The world outside: one small interface per kind, one module or package per provider."""
