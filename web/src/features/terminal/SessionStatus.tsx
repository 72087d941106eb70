import { useEffect, useState } from "react";
import { Button } from "../../ui/Button";
import { StatusDot } from "../../ui/StatusDot";
import { capitalize, describePhase, phaseTone } from "./phaseWords";
import type { TerminalSession } from "./TerminalSession";
import { useSessionState } from "./useSessionState";

const COUNTDOWN_MS = 250;

interface SessionStatusProps {
  session: TerminalSession;
  /** Why no output comes although HQ can be reached, such as that the runner is offline; else empty. */
  trouble: string;
}

/** Says whether what the terminal shows is live, and if not, why and what happens next. */
export function SessionStatus({ session, trouble }: SessionStatusProps) {
  const { phase } = useSessionState(session);
  const troubled = trouble !== "" && (phase.name === "live" || phase.name === "replaying");
  const waiting = phase.name === "reconnecting" && phase.retryAtMs !== null;
  const [nowMs, setNowMs] = useState(() => performance.now());
  useEffect(() => {
    if (!waiting) return;
    setNowMs(performance.now());
    const timer = setInterval(() => setNowMs(performance.now()), COUNTDOWN_MS);
    return () => clearInterval(timer);
  }, [waiting]);
  return (
    <div className="flex min-w-0 items-center gap-2">
      <div
        role="status"
        data-testid="session-status"
        data-phase={phase.name}
        className="flex min-w-0 items-center gap-1.5 text-soft text-xs"
      >
        <StatusDot tone={troubled ? "warn" : phaseTone(phase)} />
        <span className="truncate tabular-nums">
          {troubled ? capitalize(trouble) : describePhase(phase, nowMs)}
        </span>
      </div>
      {waiting && (
        <Button size="small" onClick={() => session.hurry()} className="max-sm:hidden">
          Retry now
        </Button>
      )}
    </div>
  );
}
