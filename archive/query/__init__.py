"""Search: one engine for QIDO-RS and C-FIND."""
