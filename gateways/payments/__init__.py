"""Taking money through a hosted page: `base` is the interface, `errors` how it fails."""
