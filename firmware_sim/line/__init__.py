"""The simulated serial line, and what goes wrong on it."""
