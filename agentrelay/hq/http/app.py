"""The HTTP app, put together."""

from fastapi import FastAPI

import agentrelay
from agentrelay.hq.http import events, login, runners, sessions, system
from agentrelay.hq.http.gate import Gate
from agentrelay.hq.http.parts import HqParts, Render
from agentrelay.hq.http.problems import add_problem_handlers
from agentrelay.hq.http.ui import UI_DIR, Ui, ui_or_problem


def make_app(hq: HqParts, *, render: Render | None = None, ui: Ui | None = None) -> FastAPI:
    """Make the ASGI app that answers for `hq`.

    Args:
        hq: what it answers about; used from the event loop's thread only.
        render: gives the screen of a session; by default `agentrelay.hq.rendering.describe`.
        ui: the web UI; by default the one built into the package.
    """
    if render is None:
        # Only here, so that the HTTP side can be used without a terminal library.
        from agentrelay.hq.rendering import describe

        render = describe
    # The pages FastAPI makes of the OpenAPI document load scripts from elsewhere; HQ serves nothing foreign.
    app = FastAPI(
        title="AgentRelay HQ",
        version=agentrelay.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.hq = hq
    app.state.openapi = None
    app.state.render = render
    app.state.failure_limit = login.FailureLimit()
    app.state.ui = ui or Ui(UI_DIR)
    for module in (system, login, runners, sessions, events):
        app.include_router(module.router)
    app.router.default = ui_or_problem
    add_problem_handlers(app)
    app.add_middleware(Gate, auth=hq.auth, ui=app.state.ui)
    return app
