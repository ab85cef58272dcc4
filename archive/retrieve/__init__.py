"""Retrieve: the one door by which stored bytes leave."""
