import { Plus, Search, Settings, Unplug } from "lucide-react";
import { useState } from "react";
import { RunnerItem } from "../features/runners/RunnerItem";
import { SessionRow } from "../features/sessions/SessionRow";
import { byAge, hasEnded } from "../features/sessions/sessionWords";
import { Button, IconButton } from "../ui/Button";
import { Kbd } from "../ui/Kbd";
import { Logo } from "../ui/Logo";
import { StatusDot } from "../ui/StatusDot";
import type { RunnerInfo, SessionInfo } from "../wire/objects";
import type { SessionId } from "../wire/values";
import { openDialog } from "./dialogs";
import { useDirectory, useFeed } from "./directory";
import { useActions } from "./useActions";
import { useNow } from "./useNow";

interface SidebarProps {
  shownSession: SessionId | null;
  /** Something was chosen: a drawer may close. */
  onChosen: () => void;
}

export function Sidebar({ shownSession, onChosen }: SidebarProps) {
  const { runners, sessions, known } = useDirectory();
  const actions = useActions();
  const canStart = runners.some((runner) => runner.online);

  return (
    <nav aria-label="Runners and sessions" className="flex h-full flex-col">
      <div className="flex h-11 shrink-0 items-center gap-2 pr-2 pl-3.5">
        <button
          type="button"
          onClick={() => {
            actions.goHome();
            onChosen();
          }}
          className="flex items-center gap-2 rounded-md font-semibold tracking-tight"
        >
          <Logo size={20} />
          AgentRelay
        </button>
        <IconButton
          label="Go to anything"
          className="ml-auto"
          onClick={() => {
            onChosen();
            openDialog({ name: "palette" });
          }}
        >
          <Search size={15} />
        </IconButton>
      </div>

      <div className="px-2.5 pt-1 pb-2">
        <Button
          className="w-full justify-start pl-2 pointer-coarse:h-10"
          data-testid="new-session"
          disabled={!canStart}
          onClick={() => {
            onChosen();
            openDialog({ name: "new", wish: {} });
          }}
        >
          <Plus size={14} aria-hidden="true" />
          <span className="flex-1 text-left">New session</span>
          <Kbd keys={["n"]} />
        </Button>
      </div>

      <div className="min-h-0 flex-1 overflow-y-auto px-2 pb-3">
        {known && runners.length === 0 && (
          <p className="px-2 py-1.5 text-faint text-xs">No runner has connected yet.</p>
        )}
        <ul className="flex flex-col gap-0.5">
          {sortRunners(withForgotten(runners, sessions)).map((runner) => {
            const own = sessions.filter((session) => session.runner_id === runner.runner_id);
            return (
              <RunnerItem
                key={runner.runner_id}
                runner={runner}
                running={own.filter((session) => !hasEnded(session)).length}
                onStart={() => {
                  onChosen();
                  openDialog({ name: "new", wish: { runnerId: runner.runner_id } });
                }}
              >
                <SessionRows sessions={own} shownSession={shownSession} onChosen={onChosen} />
              </RunnerItem>
            );
          })}
        </ul>
      </div>

      <Footer onChosen={onChosen} />
    </nav>
  );
}

function SessionRows({
  sessions,
  shownSession,
  onChosen,
}: SidebarProps & { sessions: readonly SessionInfo[] }) {
  const actions = useActions();
  const nowMs = useNow(30_000);
  const [showEnded, setShowEnded] = useState(false);
  const ended = sessions.filter(hasEnded).sort(byAge);
  const open = sessions.filter((session) => !hasEnded(session)).sort(byAge);
  // What is on the screen is in the list, whatever is folded.
  const listed = showEnded
    ? [...open, ...ended]
    : [...open, ...ended.filter((one) => one.session_id === shownSession)];
  return (
    <>
      {sessions.length === 0 && <li className="px-2 py-1 text-faint text-xs">No sessions</li>}
      {listed.map((session) => (
        <SessionRow
          key={session.session_id}
          session={session}
          current={session.session_id === shownSession}
          nowMs={nowMs}
          onOpen={() => {
            actions.showSession(session.session_id);
            onChosen();
          }}
          onDelete={() => openDialog({ name: "delete", sessionId: session.session_id })}
        />
      ))}
      {ended.length > 0 && (
        <li>
          <button
            type="button"
            aria-expanded={showEnded}
            data-testid="toggle-ended"
            onClick={() => setShowEnded(!showEnded)}
            className="h-6.5 w-full rounded-md px-2 text-left text-faint text-xs hover:bg-hover hover:text-ink pointer-coarse:h-9"
          >
            {showEnded ? "Hide ended" : `${ended.length} ended`}
          </button>
        </li>
      )}
    </>
  );
}

function Footer({ onChosen }: Pick<SidebarProps, "onChosen">) {
  const live = useFeed((feed) => feed.live);
  return (
    <div className="flex h-11 shrink-0 items-center gap-1 border-line border-t pr-2 pl-3.5 pb-[env(safe-area-inset-bottom)]">
      <span role="status" className="flex min-w-0 flex-1 items-center gap-2 text-faint text-xs">
        <StatusDot tone={live ? "good" : "warn"} />
        <span className="truncate">{live ? "Connected to HQ" : "Connecting to HQ…"}</span>
      </span>
      <IconButton
        label="Connect a runner"
        onClick={() => {
          onChosen();
          openDialog({ name: "connect" });
        }}
      >
        <Unplug size={15} />
      </IconButton>
      <IconButton
        label="Settings"
        onClick={() => {
          onChosen();
          openDialog({ name: "settings" });
        }}
      >
        <Settings size={15} />
      </IconButton>
    </div>
  );
}

/** Add runners that HQ has forgotten and that still have sessions to read. */
function withForgotten(runners: readonly RunnerInfo[], sessions: readonly SessionInfo[]): RunnerInfo[] {
  const known = new Set(runners.map((runner) => runner.runner_id));
  const forgotten = new Set(sessions.map((session) => session.runner_id).filter((id) => !known.has(id)));
  const nothing = { hostname: "", os: "", arch: "", version: "", connected_at: null, last_seen_at: null };
  return [
    ...runners,
    ...[...forgotten].map((runner_id) => ({ ...nothing, runner_id, online: false, presets: [] })),
  ];
}

/** Those online first, then by name. */
export function sortRunners(runners: readonly RunnerInfo[]): RunnerInfo[] {
  return runners.toSorted(
    (a, b) => Number(b.online) - Number(a.online) || a.runner_id.localeCompare(b.runner_id),
  );
}
