"""Storage commitment: what a sender asks before it deletes its own copies (PS3.4 Annex J)."""
