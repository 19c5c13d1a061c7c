"""`microrpc demo`: a conversation with a board, part by part."""
