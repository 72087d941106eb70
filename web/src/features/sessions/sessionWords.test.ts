import { describe, expect, it } from "vitest";
import type { SessionInfo } from "../../wire/objects";
import { describeAge, describeState, sessionCommand, sessionName, stateTone } from "./sessionWords";

const session = (change: Partial<SessionInfo>) =>
  ({
    state: "running",
    name: "",
    preset: null,
    command: [],
    exit_code: null,
    signal: null,
    ...change,
  }) as SessionInfo;

describe("sessionName", () => {
  it.each([
    [{ name: "build", preset: "claude", command: ["/usr/bin/claude"] }, "build"],
    [{ preset: "claude", command: ["/usr/bin/claude"] }, "claude"],
    [{ command: ["/usr/bin/htop", "-d", "5"] }, "htop"],
    [{}, "shell"],
  ])("of %j is %s", (change, name) => {
    expect(sessionName(session(change))).toBe(name);
  });
});

it("shows a command as it would be typed", () => {
  expect(sessionCommand(session({ command: ["bash", "-c", "echo a b"] }))).toBe("bash -c 'echo a b'");
  expect(sessionCommand(session({}))).toBe("login shell");
});

it.each([
  [{ state: "running" }, "", "good"],
  [{ state: "away" }, "its runner is offline", "warn"],
  [{ state: "ended", exit_code: 0 }, "ended normally", "idle"],
  [{ state: "ended", exit_code: 2 }, "ended with exit code 2", "bad"],
  [{ state: "ended", signal: 9 }, "ended by SIGKILL", "bad"],
] as const)("describes %j", (change, words, tone) => {
  expect(describeState(session(change))).toBe(words);
  expect(stateTone(session(change))).toBe(tone);
});

it.each([
  [-5, "now"],
  [59, "now"],
  [60, "1 min"],
  [3_599, "59 min"],
  [7_200, "2 h"],
  [200_000, "2 d"],
])("gives an age of %i s", (age, words) => {
  expect(describeAge(1_000_000 - age, 1_000_000_000)).toBe(words);
});
