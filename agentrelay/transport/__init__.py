"""WebSocket endpoints on the event loop: the thin I/O around the sans-IO protocol."""
