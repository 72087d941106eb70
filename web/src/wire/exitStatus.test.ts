import { expect, it } from "vitest";
import { describeExit, isCleanExit } from "./exitStatus";

it.each([
  [0, null, "ended normally"],
  [1, null, "ended with exit code 1"],
  [null, 9, "ended by SIGKILL"],
  [null, 34, "ended by signal 34"],
  [null, null, "ended, exit status unknown"],
])("says how a program with exit code %s and signal %s ended", (exit_code, signal, words) => {
  expect(describeExit({ exit_code, signal })).toBe(words);
  expect(isCleanExit({ exit_code, signal })).toBe(exit_code === 0);
});
