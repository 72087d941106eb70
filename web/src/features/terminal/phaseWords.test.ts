import { expect, it } from "vitest";
import { describePhase } from "./phaseWords";
import type { Phase } from "./sessionState";

it.each<[Phase, string]>([
  [{ name: "live" }, "Live"],
  [
    { name: "reconnecting", reason: "HQ cannot be reached", retryAtMs: 4_500 },
    "Reconnecting in 4 s: HQ cannot be reached",
  ],
  [
    { name: "reconnecting", reason: "the connection was lost", retryAtMs: 1_200 },
    "Reconnecting: the connection was lost",
  ],
  [{ name: "reconnecting", reason: "HQ is restarting", retryAtMs: null }, "Reconnecting: HQ is restarting"],
  [{ name: "ended", exit: { exit_code: 1, signal: null } }, "Ended with exit code 1"],
])("says where a session stands: %j", (phase, words) => {
  expect(describePhase(phase, 1_000)).toBe(words);
});
