"""Ways to send a message to a customer."""
