"""What crossed a line: recorded, and put in words."""
