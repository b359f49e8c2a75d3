"""The lines of accounts: why they are held, and bringing the network to what is wanted of them."""
