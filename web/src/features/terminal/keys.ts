/** What keys send that a phone's keyboard does not have. */

/** Give what `text`, one key, sends with Ctrl held. What Ctrl changes nothing about stays as it is. */
export function controlKey(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: cursor keys are control sequences
  const cursorKey = /^\x1b[[O]([ABCDHF])$/.exec(text);
  if (cursorKey) return `\x1b[1;5${cursorKey[1]}`;
  if (text.length !== 1) return text;
  if (text === " ") return "\0";
  if (text === "?") return "\x7f";
  const code = text.toUpperCase().charCodeAt(0);
  return code >= 0x40 && code <= 0x5f ? String.fromCharCode(code & 0x1f) : text;
}

export type Arrow = "up" | "down" | "left" | "right";

const ARROWS: Record<Arrow, string> = { up: "A", down: "B", right: "C", left: "D" };

/** Give what an arrow key sends; programs can ask for the application form (DECCKM). */
export function arrowKey(arrow: Arrow, applicationMode: boolean): string {
  return `\x1b${applicationMode ? "O" : "["}${ARROWS[arrow]}`;
}
