"""The HTTP app, put together."""

from starlette.applications import Starlette

from agentrelay.hq.http import events, login, runners, sessions, system
from agentrelay.hq.http.gate import Gate
from agentrelay.hq.http.parts import HqParts, Render
from agentrelay.hq.http.problems import add_problem_handlers
from agentrelay.hq.http.routes import starlette_routes
from agentrelay.hq.http.ui import UI_DIR, Ui, ui_or_problem


def make_app(hq: HqParts, *, render: Render | None = None, ui: Ui | None = None) -> Starlette:
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
    parts = (system, login, runners, sessions, events)
    operations = [operation for part in parts for operation in part.routes.operations]
    app = Starlette(routes=starlette_routes(operations, hq))
    app.state.operations = operations
    app.state.openapi = None
    app.state.render = render
    app.state.failure_limit = login.FailureLimit()
    app.state.ui = ui or Ui(UI_DIR)
    app.router.redirect_slashes = False
    app.router.default = ui_or_problem
    add_problem_handlers(app)
    app.add_middleware(Gate, auth=hq.auth, ui=app.state.ui)
    return app
