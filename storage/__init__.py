"""Persistence: keys and bytes, rows and columns; no service, no protocol."""
