"""`microrpc monitor`: the screen, its parts, and what feeds it."""
