"""Measurements of the portal: `make bench`. Figures land in docs/performance.md, bars can fail."""
