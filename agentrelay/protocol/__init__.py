"""What AgentRelay's parts say to each other: bytes and events in, bytes and events out, no I/O.

Nothing here imports asyncio or socket. `docs/protocol.md` is the text that these modules implement.
"""
