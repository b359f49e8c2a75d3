"""Telephone numbers: what their customers chose, and bringing the switch there."""
