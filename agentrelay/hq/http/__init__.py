"""HQ's HTTP side: the REST interface, the event stream and the web UI. `make_app` gives the ASGI app."""

from agentrelay.hq.http.app import make_app

__all__ = ["make_app"]
