import { CircleStop, Trash2 } from "lucide-react";
import { IconButton } from "../../ui/Button";
import { cn } from "../../ui/classNames";
import { StatusDot } from "../../ui/StatusDot";
import type { SessionInfo } from "../../wire/objects";
import { describeAge, describeState, hasEnded, sessionCommand, sessionName, stateTone } from "./sessionWords";

interface SessionRowProps {
  session: SessionInfo;
  /** Whether it is the one on the screen. */
  current: boolean;
  nowMs: number;
  onOpen: () => void;
  /** End a session that runs, or remove one that has ended. */
  onDelete: () => void;
}

/** A session in the sidebar. */
export function SessionRow({ session, current, nowMs, onOpen, onDelete }: SessionRowProps) {
  const name = sessionName(session);
  const ended = hasEnded(session);
  const state = describeState(session);
  const note = state || session.title || (session.name ? sessionCommand(session) : "");
  return (
    <li className="group relative" data-testid="session-item" data-session-id={session.session_id}>
      <button
        type="button"
        aria-current={current ? "page" : undefined}
        title={sessionCommand(session)}
        onClick={onOpen}
        className={cn(
          "flex min-h-7.5 w-full items-center gap-2 rounded-md py-1 pr-2 pl-2 text-left pointer-coarse:min-h-10",
          current ? "bg-pressed" : "hover:bg-hover",
        )}
      >
        <StatusDot tone={stateTone(session)} />
        <span className="min-w-0 flex-1">
          <span className={cn("block truncate", ended ? "text-soft" : "text-ink")}>{name}</span>
          {note && (
            <span
              className={cn(
                "block truncate text-[11px] leading-4",
                stateTone(session) === "bad" ? "text-bad" : "text-faint",
              )}
            >
              {note}
            </span>
          )}
        </span>
        <span className="shrink-0 text-[11px] text-faint tabular-nums group-focus-within:opacity-0 group-hover:opacity-0 pointer-coarse:hidden">
          {session.created_at !== null && describeAge(session.ended_at ?? session.created_at, nowMs)}
        </span>
      </button>
      <IconButton
        label={ended ? `Remove ${name}` : `End ${name}`}
        onClick={onDelete}
        className="absolute top-1/2 right-0.5 size-6.5 -translate-y-1/2 opacity-0 hover:bg-pressed focus-visible:opacity-100 group-hover:opacity-100 pointer-coarse:opacity-100"
      >
        {ended ? <Trash2 size={13} /> : <CircleStop size={14} />}
      </IconButton>
    </li>
  );
}
