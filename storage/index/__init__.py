"""The index: rows in SQLite or PostgreSQL."""
