import { ChevronRight, Plus } from "lucide-react";
import { type ReactNode, useState } from "react";
import { IconButton } from "../../ui/Button";
import { cn } from "../../ui/classNames";
import { StatusDot } from "../../ui/StatusDot";
import type { RunnerInfo } from "../../wire/objects";
import { describeSystem } from "./runnerWords";

interface RunnerItemProps {
  runner: RunnerInfo;
  /** How many of its sessions have not ended. */
  running: number;
  onStart: () => void;
  children: ReactNode;
}

/** A runner in the sidebar, with its sessions below. */
export function RunnerItem({ runner, running, onStart, children }: RunnerItemProps) {
  const [open, setOpen] = useState(true);
  const name = runner.runner_id;
  const about = [runner.hostname, describeSystem(runner)].filter(Boolean).join(" · ");
  return (
    <li data-testid="runner-item" data-runner-id={name} data-online={runner.online}>
      <div className="group flex h-8 items-center gap-1 rounded-md pr-0.5 pl-1 hover:bg-hover pointer-coarse:h-10">
        <button
          type="button"
          aria-expanded={open}
          title={about}
          onClick={() => setOpen(!open)}
          className="flex h-full min-w-0 flex-1 items-center gap-1.5 rounded-md text-left"
        >
          <ChevronRight
            size={13}
            className={cn("shrink-0 text-faint transition-transform", open && "rotate-90")}
            aria-hidden="true"
          />
          <StatusDot tone={runner.online ? "good" : "idle"} label={runner.online ? "online" : "offline"} />
          <span className={cn("truncate font-medium", !runner.online && "text-soft")}>{name}</span>
          <span className="ml-auto shrink-0 pl-1 text-faint text-xs tabular-nums">
            {runner.online ? (
              <span title={`${running} running`}>
                {running}
                <span className="sr-only"> running</span>
              </span>
            ) : (
              "offline"
            )}
          </span>
        </button>
        <IconButton
          label={`New session on ${name}`}
          disabled={!runner.online}
          onClick={onStart}
          className="size-6.5 hover:bg-pressed"
        >
          <Plus size={14} />
        </IconButton>
      </div>
      {open && <ul className="mb-1.5 ml-2.5 border-line border-l pl-1.5">{children}</ul>}
    </li>
  );
}
