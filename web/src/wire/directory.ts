/** What HQ knows, as far as it has told us: all runners and sessions, kept current by events. */
import * as v from "valibot";
import { type EventKind, eventPayloads, type HqEvent, type RunnerInfo, type SessionInfo } from "./objects";
import { WireError } from "./wireError";

export interface Directory {
  runners: readonly RunnerInfo[];
  sessions: readonly SessionInfo[];
}

/** Read the `data` of one server-sent event. Throws WireError where it is not what its kind says. */
export function decodeEvent(kind: EventKind, data: string): HqEvent {
  let json: unknown;
  try {
    json = JSON.parse(data);
  } catch {
    throw new WireError(`event "${kind}" is not JSON: ${data.slice(0, 80)}`);
  }
  const parsed = v.safeParse(eventPayloads[kind], json);
  if (!parsed.success) {
    const issue = parsed.issues[0];
    throw new WireError(`event "${kind}": ${v.getDotPath(issue) ?? "data"}: ${issue.message}`);
  }
  return { kind, data: parsed.output } as HqEvent;
}

/** Give the directory after `event`. */
export function applyEvent(directory: Directory, event: HqEvent): Directory {
  const { runners, sessions } = directory;
  switch (event.kind) {
    case "snapshot":
      return event.data;
    case "runner":
      return { runners: put(runners, event.data, (runner) => runner.runner_id), sessions };
    case "session":
      return { runners, sessions: put(sessions, event.data, (session) => session.session_id) };
    case "runner_removed":
      return { runners: runners.filter((runner) => runner.runner_id !== event.data.runner_id), sessions };
    case "session_removed":
      return { runners, sessions: sessions.filter((one) => one.session_id !== event.data.session_id) };
  }
}

function put<Item>(items: readonly Item[], item: Item, key: (item: Item) => string): readonly Item[] {
  const at = items.findIndex((other) => key(other) === key(item));
  return at < 0 ? [...items, item] : items.with(at, item);
}
