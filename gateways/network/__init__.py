"""Ways to tell the network what to do with a line."""
