import { describeExit, isOrderlyEnd } from "../../wire/exitStatus";
import type { Phase } from "./sessionState";

/** Where a session stands at this viewer, in words. `nowMs` is on the session's clock. */
export function describePhase(phase: Phase, nowMs: number): string {
  switch (phase.name) {
    case "starting":
      return "Starting…";
    case "connecting":
      return "Connecting…";
    case "replaying":
      return "Loading history…";
    case "live":
      return "Live";
    case "reconnecting": {
      const waitS = phase.retryAtMs === null ? 0 : Math.ceil((phase.retryAtMs - nowMs) / 1_000);
      return waitS > 1 ? `Reconnecting in ${waitS} s: ${phase.reason}` : `Reconnecting: ${phase.reason}`;
    }
    case "ended":
      return capitalize(describeExit(phase.exit));
    case "failed":
      return "Failed";
    case "gone":
      return "Gone";
  }
}

export function phaseTone(phase: Phase): "good" | "warn" | "bad" | "idle" {
  switch (phase.name) {
    case "live":
      return "good";
    case "ended":
      return isOrderlyEnd(phase.exit) ? "idle" : "bad";
    case "failed":
    case "gone":
      return "bad";
    default:
      return "warn";
  }
}

export function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
