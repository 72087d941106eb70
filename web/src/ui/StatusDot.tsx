import { cn } from "./classNames";

const tones = {
  good: "bg-good",
  warn: "bg-warn",
  bad: "bg-bad",
  idle: "border-[1.5px] border-faint",
  accent: "bg-accent",
} as const;

export type Tone = keyof typeof tones;

/** A dot that repeats in colour what a text beside it says, or `label` where there is none. */
export function StatusDot({ tone, label, pulse }: { tone: Tone; label?: string; pulse?: boolean }) {
  return (
    <span
      className="relative inline-flex size-2 shrink-0"
      {...(label && { role: "img", "aria-label": label })}
    >
      {pulse && <span className={cn("absolute inset-0 animate-ping rounded-full opacity-60", tones[tone])} />}
      <span className={cn("relative size-2 rounded-full", tones[tone])} />
    </span>
  );
}
