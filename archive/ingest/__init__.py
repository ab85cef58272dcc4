"""Ingest: the one door by which every instance enters."""
