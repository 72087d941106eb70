/** How sessions are named and described to people. */
import { joinCommandLine } from "../../wire/commandLine";
import { describeExit, isOrderlyEnd } from "../../wire/exitStatus";
import type { SessionInfo } from "../../wire/objects";

/** The name somebody gave it, else what it runs. */
export function sessionName(session: Pick<SessionInfo, "name" | "preset" | "command">): string {
  return session.name || session.preset || session.command?.[0]?.split("/").at(-1) || "shell";
}

/** The command line, as a person would type it. */
export function sessionCommand(session: Pick<SessionInfo, "preset" | "command">): string {
  return session.command && session.command.length > 0
    ? joinCommandLine(session.command)
    : (session.preset ?? "login shell");
}

export function hasEnded(session: SessionInfo): boolean {
  return session.state === "ended";
}

/** Where it stands, in words; empty where it just runs. */
export function describeState(session: SessionInfo): string {
  switch (session.state) {
    case "starting":
      return "starting";
    case "running":
      return "";
    case "away":
      return "its runner is offline";
    case "lost":
      return "its runner came back without it";
    case "ended":
      return describeExit({ exit_code: session.exit_code ?? null, signal: session.signal ?? null });
  }
}

export function stateTone(session: SessionInfo): "good" | "warn" | "bad" | "idle" {
  switch (session.state) {
    case "starting":
    case "away":
      return "warn";
    case "running":
      return "good";
    case "lost":
      return "bad";
    case "ended":
      return isOrderlyEnd({ exit_code: session.exit_code ?? null, signal: session.signal ?? null })
        ? "idle"
        : "bad";
  }
}

/** How long ago, in the shortest words: "now", "5 min", "3 h", "2 d". */
export function describeAge(sinceUnixS: number, nowMs: number): string {
  const seconds = Math.max(0, nowMs / 1_000 - sinceUnixS);
  if (seconds < 60) return "now";
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** Newest first. */
export function byAge(a: SessionInfo, b: SessionInfo): number {
  return (b.created_at ?? 0) - (a.created_at ?? 0);
}
