"""What serves a board to other programs."""
