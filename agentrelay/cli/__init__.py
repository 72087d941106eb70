"""Command lines: parse, check, and hand over."""
