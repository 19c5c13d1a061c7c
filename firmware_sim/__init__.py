"""The simulated board: what a microcontroller with microTVM's C runtime does on the line."""
