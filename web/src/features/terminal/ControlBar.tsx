import { Eye } from "lucide-react";
import { Button } from "../../ui/Button";
import type { TerminalSession } from "./TerminalSession";
import { useSessionState } from "./useSessionState";

/** Says that keys go nowhere, and offers to change that. Nothing while this viewer is in control. */
export function ControlBar({ session }: { session: TerminalSession }) {
  const { control, phase, pty } = useSessionState(session);
  if (control === "you" || (phase.name !== "live" && phase.name !== "replaying")) return null;
  return (
    <div className="flex items-center gap-2 border-line border-b bg-accent-wash px-3 py-1 text-xs">
      <Eye size={14} className="shrink-0 text-accent" aria-hidden="true" />
      <span className="min-w-0 flex-1 truncate text-ink">
        {control === "other" ? "Watching: another viewer is in control" : "Nobody is in control"}
        {pty && <span className="text-faint max-sm:hidden"> · {`${pty.cols} × ${pty.rows}`}</span>}
      </span>
      <Button size="small" data-testid="take-control" onClick={() => session.takeControl()}>
        Take control
      </Button>
    </div>
  );
}
