"""The index as tables, for engines that query collections (docs/analytics.md)."""
