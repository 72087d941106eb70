/** Requests to HQ's REST interface. Bodies are JSON, errors `application/problem+json`. */
import * as v from "valibot";
import { Me, Problem, RunnerList, SessionInfo, SessionList } from "../wire/objects";
import type { RunnerId, SessionId } from "../wire/values";

/** HQ answered with an error; `message` is a sentence for people. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** HQ did not answer. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

const ANSWER_TIMEOUT_MS = 15_000;

let onUnauthorized: () => void = () => {};

/** Call `listener` whenever HQ asks for a login (401). */
export function watchUnauthorized(listener: () => void): void {
  onUnauthorized = listener;
}

async function request(method: string, path: string, body?: object): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      ...(body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
  } catch {
    throw new UnreachableError("HQ cannot be reached");
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const message = await describeProblem(response);
  // A development proxy answers for an HQ that is away.
  if (response.status === 502 || response.status === 504) throw new UnreachableError("HQ cannot be reached");
  if (response.status === 401 && path !== "/api/login") onUnauthorized();
  throw new HttpError(response.status, message);
}

async function describeProblem(response: Response): Promise<string> {
  const problem = v.safeParse(Problem, await response.json().catch(() => null));
  const { title, detail } = problem.success ? problem.output : {};
  return detail ?? title ?? `HQ answered with ${response.status}`;
}

const sessionPath = (id: SessionId) => `/api/sessions/${encodeURIComponent(id)}`;

export async function fetchMe(): Promise<Me> {
  return v.parse(Me, await request("GET", "/api/me"));
}

export async function login(token: string): Promise<void> {
  await request("POST", "/api/login", { token });
}

export async function logout(): Promise<void> {
  await request("POST", "/api/logout");
}

export async function fetchDirectory() {
  const [runners, sessions] = await Promise.all([
    request("GET", "/api/runners"),
    request("GET", "/api/sessions"),
  ]);
  return { ...v.parse(RunnerList, runners), ...v.parse(SessionList, sessions) };
}

export async function fetchSession(id: SessionId): Promise<SessionInfo> {
  return v.parse(SessionInfo, await request("GET", sessionPath(id)));
}

export async function checkRunner(id: RunnerId): Promise<void> {
  await request("GET", `/api/runners/${encodeURIComponent(id)}`);
}

export async function renameSession(id: SessionId, name: string): Promise<void> {
  await request("PATCH", sessionPath(id), { name });
}

/** End a session that runs; remove one that has ended, with its output. */
export async function deleteSession(id: SessionId): Promise<void> {
  await request("DELETE", sessionPath(id));
}
