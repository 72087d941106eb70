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
      expect(terminalShortcut(key(code), false)).toBeNull();
      expect(terminalShortcut(key(code, { ctrlKey: true }), false)).toBeNull();
      expect(terminalShortcut(key(code, { altKey: true, ...ctrlShift }), false)).toBeNull();
    }
  });

  it("knows its own, once for each press", () => {
    expect(terminalShortcut(key("KeyK", ctrlShift), false)).toBe("palette");
    expect(terminalShortcut(key("Digit3", ctrlShift), false)).toEqual({ tab: 2 });
    expect(terminalShortcut({ ...key("KeyK", ctrlShift), type: "keyup" }, false)).toBeNull();
  });
});

it("has Cmd+K in a terminal on a Mac, where Ctrl+K is the shell's", () => {
  expect(terminalShortcut(key("KeyK", { metaKey: true }), true)).toBe("palette");
  expect(terminalShortcut(key("KeyK", { ctrlKey: true }), true)).toBeNull();
  expect(terminalShortcut(key("KeyK", { metaKey: true }), false)).toBeNull();
});

describe("on the page", () => {
  it("takes plain keys only outside fields", () => {
    expect(pageShortcut(key("KeyN"), false, false)).toBe("new");
    expect(pageShortcut(key("KeyN"), false, true)).toBeNull();
    expect(pageShortcut(key("KeyN", { ctrlKey: true }), false, false)).toBeNull();
    expect(pageShortcut(key("KeyK", { ctrlKey: true }), false, true)).toBe("palette");
  });
});
