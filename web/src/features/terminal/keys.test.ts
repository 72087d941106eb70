import { expect, it } from "vitest";
import { arrowKey, controlKey } from "./keys";

it.each([
  ["c", "\x03"],
  ["C", "\x03"],
  ["[", "\x1b"],
  [" ", "\0"],
  ["?", "\x7f"],
  ["\x1b[A", "\x1b[1;5A"],
  ["\x1bOD", "\x1b[1;5D"],
  ["é", "é"],
  ["1", "1"],
  ["ab", "ab"],
])("sends for Ctrl and %j %j", (text, sent) => {
  expect(controlKey(text)).toBe(sent);
});

it("sends arrows in the form the program asked for", () => {
  expect(arrowKey("up", false)).toBe("\x1b[A");
  expect(arrowKey("left", true)).toBe("\x1bOD");
});
