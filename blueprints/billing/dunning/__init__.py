"""What happens when a bill is not paid, and what ends it."""
