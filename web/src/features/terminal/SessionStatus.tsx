import { useEffect, useState } from "react";
import { Button } from "../../ui/Button";
import { StatusDot } from "../../ui/StatusDot";
import { describePhase, phaseTone } from "./phaseWords";
import type { TerminalSession } from "./TerminalSession";
import { useSessionState } from "./useSessionState";

const COUNTDOWN_MS = 250;

/** Says whether what the terminal shows is live, and if not, why and what happens next. */
export function SessionStatus({ session }: { session: TerminalSession }) {
  const { phase } = useSessionState(session);
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
        <StatusDot tone={phaseTone(phase)} />
        <span className="truncate tabular-nums">{describePhase(phase, nowMs)}</span>
      </div>
      {waiting && (
        <Button size="small" onClick={() => session.hurry()} className="max-sm:hidden">
          Retry now
        </Button>
      )}
    </div>
  );
}
