"""What becomes of stored instances: deleted, restored, purged, checked, indexed again."""
