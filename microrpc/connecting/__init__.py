"""From an address to a board with a session."""
