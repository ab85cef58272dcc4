"""Forwarding: which newly arrived studies go to whom, and how far each has come."""
