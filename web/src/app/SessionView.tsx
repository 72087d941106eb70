import { CircleStop, RotateCw, Trash2 } from "lucide-react";
import type { ReactNode } from "react";
import type { NewSessionWish } from "../features/sessions/NewSessionDialog";
import { SessionName } from "../features/sessions/SessionName";
import { describeState, sessionCommand, sessionName } from "../features/sessions/sessionWords";
import {
  type Appearance,
  ControlBar,
  capitalize,
  KeyBar,
  NoticeBar,
  type Phase,
  SessionStatus,
  TerminalPane,
  type TerminalView,
  useSessionState,
} from "../features/terminal";
import { Button } from "../ui/Button";
import { Sentence } from "../ui/Sentence";
import { joinCommandLine } from "../wire/commandLine";
import type { SessionInfo } from "../wire/objects";
import { openDialog } from "./dialogs";
import { useDirectory } from "./directory";
import { startName, type Tab } from "./tabs";
import { useActions } from "./useActions";

interface SessionViewProps {
  tab: Tab;
  view: TerminalView;
  appearance: Appearance;
}

/** A session on the screen: what it is, where it stands, its terminal. */
export function SessionView({ tab, view, appearance }: SessionViewProps) {
  const { session } = view;
  const { phase, sessionId } = useSessionState(session);
  const { sessions } = useDirectory();
  const actions = useActions();
  const info = sessions.find((one) => one.session_id === sessionId);
  const ended = phase.name === "ended";
  const { start } = tab;

  return (
    <section aria-label={info ? sessionName(info) : "Session"} className="absolute inset-0 flex flex-col">
      <header className="flex h-10 shrink-0 items-center gap-1 border-line border-b pr-1.5 pl-2">
        {info ? (
          <SessionName sessionId={info.session_id} name={sessionName(info)} />
        ) : (
          <span className="truncate px-1.5 font-semibold">
            {start ? startName(start.request) : "Session"}
          </span>
        )}
        <span
          className="min-w-0 shrink truncate text-faint text-xs max-md:hidden"
          title={info && about(info)}
        >
          {info && about(info)}
        </span>
        <div className="ml-auto flex min-w-24 items-center gap-2 pl-2">
          <SessionStatus
            session={session}
            trouble={info && (info.state === "away" || info.state === "lost") ? describeState(info) : ""}
          />
          {ended && info && (
            <>
              <Button
                size="small"
                onClick={() => actions.startAgain(info, tab.key)}
                data-testid="start-again"
              >
                <RotateCw size={13} aria-hidden="true" />
                <span className="max-sm:sr-only">Start again</span>
              </Button>
              <Button
                size="small"
                look="quiet"
                aria-label="Remove session"
                title="Remove session"
                onClick={() => openDialog({ name: "delete", sessionId: info.session_id })}
              >
                <Trash2 size={14} aria-hidden="true" />
              </Button>
            </>
          )}
          {!ended && info && (
            <Button
              size="small"
              look="quiet"
              data-testid="end-session"
              onClick={() => openDialog({ name: "delete", sessionId: info.session_id })}
            >
              <CircleStop size={14} aria-hidden="true" />
              <span className="max-sm:sr-only">End</span>
            </Button>
          )}
        </div>
      </header>
      <ControlBar session={session} />
      <div className="relative min-h-0 flex-1">
        <TerminalPane view={view} appearance={appearance} />
        <Trouble
          phase={phase}
          starting={sessionId === null}
          actions={
            <>
              {start && phase.name === "failed" && (
                <Button
                  look="solid"
                  onClick={() => {
                    actions.close(tab.key, tab.key);
                    openDialog({ name: "new", wish: wishOf(start) });
                  }}
                >
                  Change…
                </Button>
              )}
              {phase.name === "failed" && <Button onClick={() => session.retry()}>Try again</Button>}
              <Button
                look={phase.name === "gone" ? "outline" : "quiet"}
                onClick={() => actions.close(tab.key, tab.key)}
              >
                Close tab
              </Button>
            </>
          }
        />
        <NoticeBar session={session} />
      </div>
      {!ended && <KeyBar view={view} />}
    </section>
  );
}

/** Where a session cannot be shown, says why and what can be done. */
function Trouble({ phase, starting, actions }: { phase: Phase; starting: boolean; actions: ReactNode }) {
  if (phase.name !== "failed" && phase.name !== "gone") return null;
  const [title, text] =
    phase.name === "gone"
      ? ["This session is gone", "HQ does not know it. Somebody has removed it, or the address is wrong."]
      : [starting ? "The session did not start" : "The session cannot be shown", capitalize(phase.message)];
  return (
    <div className="absolute inset-0 z-10 flex items-center justify-center bg-canvas/90 p-6">
      <div role="alert" className="w-full max-w-100 animate-pop rounded-xl bg-raised p-5 shadow-float">
        <h2 className="font-semibold text-[15px]">{title}</h2>
        <p className="mt-1.5 break-words text-soft">
          <Sentence>{text}</Sentence>
        </p>
        <div className="mt-4 flex flex-wrap gap-2">{actions}</div>
      </div>
    </div>
  );
}

function about(info: SessionInfo): string {
  return [info.runner_id, info.cwd, info.name ? sessionCommand(info) : null].filter(Boolean).join("  ·  ");
}

/** Fill the form for a new session with what was asked for. */
function wishOf({ runnerId, request }: NonNullable<Tab["start"]>): NewSessionWish {
  const { command, preset, cwd, name, recording } = request;
  return {
    runnerId,
    preset: preset ?? "",
    commandLine: joinCommandLine(command ?? []),
    cwd: cwd ?? "",
    name: name ?? "",
    recording: recording ?? true,
  };
}
