import { useId } from "react";
import { StatusDot } from "../../ui/StatusDot";
import type { SessionInfo } from "../../wire/objects";
import { describeAge, describeState, sessionCommand, sessionName, stateTone } from "./sessionWords";

interface SessionTableProps {
  title: string;
  /** Said where there are none. */
  empty: string;
  sessions: readonly SessionInfo[];
  nowMs: number;
  onOpen: (session: SessionInfo) => void;
}

/** Sessions on the overview, a row each. */
export function SessionTable({ title, empty, sessions, nowMs, onOpen }: SessionTableProps) {
  const id = useId();
  return (
    <section aria-labelledby={id}>
      <h2 id={id} className="mb-3 font-medium text-soft">
        {title}
        {sessions.length > 0 && <span className="ml-2 text-faint tabular-nums">{sessions.length}</span>}
      </h2>
      {sessions.length === 0 ? (
        <p className="rounded-xl border border-line border-dashed px-4 py-6 text-center text-faint">
          {empty}
        </p>
      ) : (
        <ul className="divide-y divide-line overflow-hidden rounded-xl border border-line bg-raised">
          {sessions.map((session) => (
            <li key={session.session_id}>
              <button
                type="button"
                onClick={() => onOpen(session)}
                className="flex min-h-12 w-full items-center gap-3 px-4 py-2 text-left -outline-offset-2 hover:bg-hover"
              >
                <StatusDot tone={stateTone(session)} />
                <span className="min-w-0 flex-1 sm:flex sm:items-baseline sm:gap-3">
                  <span className="block shrink-0 truncate font-medium sm:max-w-60">
                    {sessionName(session)}
                  </span>
                  <span className="block min-w-0 truncate font-mono text-faint text-xs">
                    {sessionCommand(session)}
                  </span>
                </span>
                <span className="shrink-0 text-right text-xs">
                  <Note session={session} />
                  <span className="block text-faint">{session.runner_id}</span>
                </span>
                <span className="w-12 shrink-0 text-right text-faint text-xs tabular-nums">
                  {session.created_at !== null && describeAge(session.ended_at ?? session.created_at, nowMs)}
                </span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Note({ session }: { session: SessionInfo }) {
  const words = describeState(session);
  if (words) {
    return <span className={stateTone(session) === "bad" ? "text-bad" : "text-soft"}>{words}</span>;
  }
  const viewers = session.viewers ?? 0;
  return viewers > 0 ? (
    <span className="text-soft">{viewers === 1 ? "1 viewer" : `${viewers} viewers`}</span>
  ) : null;
}
