"""A session's screen, rendered by HQ: text, snapshots and answers to queries, without a viewer."""

from agentrelay.hq.screen.screen import Screen, ScreenText

__all__ = ["Screen", "ScreenText"]
