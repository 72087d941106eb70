"""The hot path: the compiled module, or with AGENTRELAY_PURE=1 its pure Python twin. Nothing else imports
either.

`_fastpath.pyi` documents every name.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING or os.environ.get("AGENTRELAY_PURE") != "1":
    try:
        from agentrelay._fastpath import (
            COMPILED,
            FAST,
            FREE,
            GUARD_BYTES,
            MAX_LINK_PAYLOAD_BYTES,
            MORE,
            MUX_HEADER_BYTES,
            OVERFLOW,
            SLOW,
            ByteRing,
            HoldPolicy,
            MaskSource,
            MuxReceiver,
            frame_extent,
            frame_header,
            frame_opening,
            pack_frame,
            pack_output,
            scan_frame,
            unmask,
            write_fd,
            write_frames,
        )
    except ModuleNotFoundError as missing:
        if missing.name != "agentrelay._fastpath":
            raise
        raise ImportError(
            "agentrelay._fastpath is not built: run `make build`, "
            "or set AGENTRELAY_PURE=1 for the slow pure Python version"
        ) from missing
else:
    from agentrelay._fastpath_py import (
        COMPILED,
        FAST,
        FREE,
        GUARD_BYTES,
        MAX_LINK_PAYLOAD_BYTES,
        MORE,
        MUX_HEADER_BYTES,
        OVERFLOW,
        SLOW,
        ByteRing,
        HoldPolicy,
        MaskSource,
        MuxReceiver,
        frame_extent,
        frame_header,
        frame_opening,
        pack_frame,
        pack_output,
        scan_frame,
        unmask,
        write_fd,
        write_frames,
    )

__all__ = [
    "COMPILED",
    "FAST",
    "FREE",
    "GUARD_BYTES",
    "MAX_LINK_PAYLOAD_BYTES",
    "MORE",
    "MUX_HEADER_BYTES",
    "OVERFLOW",
    "SLOW",
    "ByteRing",
    "HoldPolicy",
    "MaskSource",
    "MuxReceiver",
    "frame_extent",
    "frame_header",
    "frame_opening",
    "pack_frame",
    "pack_output",
    "scan_frame",
    "unmask",
    "write_fd",
    "write_frames",
]
