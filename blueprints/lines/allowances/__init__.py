"""What a plan includes of data, and what is done about how much of it is used."""
