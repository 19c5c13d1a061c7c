"""The simulated board: bytes and time in, bytes out."""
