"""What developers run: scripts behind targets of the Makefile."""
