import { describe, expect, it } from "vitest";
import { applyEvent, type Directory, decodeEvent } from "./directory";
import { WireError } from "./wireError";

const nothing: Directory = { runners: [], sessions: [] };

const runner = (runner_id: string, online = true) =>
  JSON.stringify({ runner_id, online, hostname: runner_id });
const session = (session_id: string, state = "running") =>
  JSON.stringify({ session_id, runner_id: "mac", state, command: ["bash"] });

function happened(...events: [kind: Parameters<typeof decodeEvent>[0], data: string][]): Directory {
  return events.reduce((directory, [kind, data]) => applyEvent(directory, decodeEvent(kind, data)), nothing);
}

describe("directory", () => {
  it("starts from a snapshot, which replaces everything", () => {
    const snapshot = `{"runners":[${runner("mac")}],"sessions":[${session("a")}]}`;
    const { runners, sessions } = happened(["session", session("old")], ["snapshot", snapshot]);
    expect(runners.map((one) => one.runner_id)).toEqual(["mac"]);
    expect(sessions.map((one) => one.session_id)).toEqual(["a"]);
  });

  it("adds what is new and changes in place what is known", () => {
    const { runners, sessions } = happened(
      ["runner", runner("mac")],
      ["session", session("a")],
      ["session", session("b")],
      ["session", session("a", "ended")],
      ["runner", runner("mac", false)],
    );
    expect(sessions.map((one) => [one.session_id, one.state])).toEqual([
      ["a", "ended"],
      ["b", "running"],
    ]);
    expect(runners.map((one) => one.online)).toEqual([false]);
  });

  it("forgets what was removed", () => {
    const { runners, sessions } = happened(
      ["runner", runner("mac")],
      ["session", session("a")],
      ["session_removed", `{"session_id":"a"}`],
      ["runner_removed", `{"runner_id":"mac"}`],
    );
    expect({ runners, sessions }).toEqual(nothing);
  });

  it.each(["{", "{}", `{"runner_id":"mac"}`])("refuses a runner event %s", (data) => {
    expect(() => decodeEvent("runner", data)).toThrow(WireError);
  });
});
