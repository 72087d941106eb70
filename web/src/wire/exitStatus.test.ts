import { expect, it } from "vitest";
import { describeExit, isOrderlyEnd } from "./exitStatus";

it.each([
  [0, null, "ended normally", true],
  [1, null, "ended with exit code 1", false],
  [null, 1, "ended by SIGHUP", true],
  [null, 9, "ended by SIGKILL", false],
  [null, 34, "ended by signal 34", false],
  [null, null, "ended, exit status unknown", false],
])("says how a program with exit code %s and signal %s ended", (exit_code, signal, words, orderly) => {
  expect(describeExit({ exit_code, signal })).toBe(words);
  expect(isOrderlyEnd({ exit_code, signal })).toBe(orderly);
});
