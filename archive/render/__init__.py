"""Rendering and transcoding: the one door by which made pixels leave."""
