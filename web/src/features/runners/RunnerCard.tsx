import { StatusDot } from "../../ui/StatusDot";
import type { RunnerInfo } from "../../wire/objects";
import { describeSystem } from "./runnerWords";

interface RunnerCardProps {
  runner: RunnerInfo;
  running: number;
  /** Start a session; with the name of a preset, or without. */
  onStart: (preset?: string) => void;
}

/** A runner on the overview, with what can be started on it. */
export function RunnerCard({ runner, running, onStart }: RunnerCardProps) {
  const { online, presets } = runner;
  return (
    <li className="flex flex-col gap-3 rounded-xl border border-line bg-raised p-4">
      <div className="flex items-start gap-2.5">
        <div className="min-w-0 flex-1">
          <h3 className="truncate font-semibold">{runner.runner_id}</h3>
          <p className="truncate text-faint text-xs">
            {[runner.hostname !== runner.runner_id && runner.hostname, describeSystem(runner)]
              .filter(Boolean)
              .join(" · ")}
          </p>
        </div>
        <span className="flex items-center gap-1.5 text-soft text-xs">
          <StatusDot tone={online ? "good" : "idle"} />
          {online ? `${running} running` : "offline"}
        </span>
      </div>
      <div className="flex flex-wrap gap-1.5">
        {(presets ?? []).map(({ name, label }) => (
          <StartChip key={name} label={label || name} disabled={!online} onClick={() => onStart(name)} />
        ))}
        <StartChip label="Command…" disabled={!online} onClick={() => onStart()} />
      </div>
    </li>
  );
}

function StartChip({ label, disabled, onClick }: { label: string; disabled: boolean; onClick: () => void }) {
  return (
    <button
      type="button"
      disabled={disabled}
      onClick={onClick}
      className="h-7 rounded-md border border-line px-2.5 text-soft text-xs transition-colors hover:border-line-strong hover:bg-hover hover:text-ink disabled:pointer-events-none disabled:opacity-45 pointer-coarse:h-9"
    >
      {label}
    </button>
  );
}
