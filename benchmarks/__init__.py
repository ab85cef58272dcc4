"""Measurements of what Fileroom promises; `make bench` runs them small."""
