import { describe, expect, it } from "vitest";
import { pageShortcut, terminalShortcut } from "./shortcuts";

function key(code: string, modifiers: Partial<KeyboardEvent> = {}) {
  const letter = code.replace(/^(Key|Digit)/, "");
  return {
    type: "keydown",
    code,
    key: modifiers.shiftKey ? letter : letter.toLowerCase(),
    ctrlKey: false,
    shiftKey: false,
    altKey: false,
    metaKey: false,
    isComposing: false,
    ...modifiers,
  };
}

const ctrlShift = { ctrlKey: true, shiftKey: true };

describe("in a terminal", () => {
  it("leaves every key without Ctrl+Shift to the program", () => {
    for (const code of ["KeyK", "KeyN", "KeyC", "KeyX", "Digit1", "BracketLeft"]) {
      expect(terminalShortcut(key(code))).toBeNull();
      expect(terminalShortcut(key(code, { ctrlKey: true }))).toBeNull();
      expect(terminalShortcut(key(code, { altKey: true, ...ctrlShift }))).toBeNull();
    }
  });

  it("knows its own, once for each press", () => {
    expect(terminalShortcut(key("KeyK", ctrlShift))).toBe("palette");
    expect(terminalShortcut(key("Digit3", ctrlShift))).toEqual({ tab: 2 });
    expect(terminalShortcut({ ...key("KeyK", ctrlShift), type: "keyup" })).toBeNull();
  });
});

describe("on the page", () => {
  it("takes plain keys only outside fields", () => {
    expect(pageShortcut(key("KeyN"), false)).toBe("new");
    expect(pageShortcut(key("KeyN"), true)).toBeNull();
    expect(pageShortcut(key("KeyN", { ctrlKey: true }), false)).toBeNull();
    expect(pageShortcut(key("KeyK", { ctrlKey: true }), true)).toBe("palette");
  });
});
