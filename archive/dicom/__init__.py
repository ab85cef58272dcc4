"""Reading the information object: Part 10, attributes, frames; no I/O policy."""
