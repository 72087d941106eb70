import { checkRunner, fetchSession, HttpError } from "../../transport/http";
import type { Target, Verdict } from "./TerminalSession";

/** Find out why HQ refused a WebSocket: a browser does not show the page the answer to an upgrade. */
export async function probe(target: Target): Promise<Verdict> {
  try {
    if (target.kind === "attach") await fetchSession(target.sessionId);
    else await checkRunner(target.runnerId);
    return "reachable";
  } catch (error) {
    if (!(error instanceof HttpError)) return "unreachable";
    if (error.status === 401) return "login_required";
    return error.status === 404 ? "not_found" : "reachable";
  }
}
