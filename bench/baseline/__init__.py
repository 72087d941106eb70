"""The reference: the same relay as anyone would write it first, on the `websockets` library."""
