"""The switch that carries telephone calls: one interface, one file per implementation."""
