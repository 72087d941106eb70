"""A session's screen, rendered by HQ: text, snapshots and answers to queries, without a viewer."""

from agentrelay.hq.screen.renderer import RENDERER
from agentrelay.hq.screen.screen import Screen
from agentrelay.hq.screen.state import ScreenText

__all__ = ["RENDERER", "Screen", "ScreenText"]
