/**
 * Keys of the page.
 *
 * A focused terminal gets every key except the combinations with Ctrl+Shift listed here (on a Mac also Cmd+K),
 * which programs on a terminal cannot tell from others anyway. Plain keys count only outside terminals and fields.
 */
export type Action = "palette" | "new" | "next_tab" | "previous_tab" | "close_tab" | { tab: number };

type Keys = Pick<
  KeyboardEvent,
  "type" | "key" | "code" | "ctrlKey" | "shiftKey" | "altKey" | "metaKey" | "isComposing"
>;

/** Give what a key means inside a terminal, or null: it is the terminal's. */
export function terminalShortcut(event: Keys, mac: boolean): Action | null {
  if (event.type !== "keydown" || event.isComposing || event.altKey) return null;
  if (mac && event.metaKey && !event.ctrlKey && !event.shiftKey && event.code === "KeyK") return "palette";
  if (!event.ctrlKey || !event.shiftKey || event.metaKey) return null;
  const digit = /^Digit([1-9])$/.exec(event.code);
  if (digit) return { tab: Number(digit[1]) - 1 };
  switch (event.code) {
    case "KeyK":
      return "palette";
    case "KeyE":
      return "new";
    case "KeyX":
      return "close_tab";
    case "BracketRight":
      return "next_tab";
    case "BracketLeft":
      return "previous_tab";
    default:
      return null;
  }
}

/** Give what a key means elsewhere. `inField`: in something that text is typed into. */
export function pageShortcut(event: Keys, mac: boolean, inField: boolean): Action | null {
  const everywhere = terminalShortcut(event, mac);
  if (everywhere || event.type !== "keydown" || event.isComposing || event.altKey) return everywhere;
  const primary = mac ? event.metaKey : event.ctrlKey;
  if (primary && !event.shiftKey && event.key.toLowerCase() === "k") return "palette";
  if (!inField && !event.ctrlKey && !event.metaKey && event.key === "n") return "new";
  return null;
}

export const shortcutHelp = (mac: boolean) => [
  {
    where: "Everywhere, also in a terminal",
    shortcuts: [
      { keys: mac ? ["⌘", "K"] : ["Ctrl", "Shift", "K"], does: "Go to anything" },
      { keys: ["Ctrl", "Shift", "E"], does: "New session" },
      { keys: ["Ctrl", "Shift", "["], does: "Previous tab" },
      { keys: ["Ctrl", "Shift", "]"], does: "Next tab" },
      { keys: ["Ctrl", "Shift", "1 … 9"], does: "Tab 1 to 9" },
      { keys: ["Ctrl", "Shift", "X"], does: "Close the tab; the session goes on" },
    ],
  },
  {
    where: "In a terminal",
    shortcuts: [{ keys: mac ? ["⌘", "C"] : ["Ctrl", "Shift", "C"], does: "Copy the selection" }],
  },
  {
    where: "Outside terminals",
    shortcuts: [
      { keys: [mac ? "⌘" : "Ctrl", "K"], does: "Go to anything" },
      { keys: ["n"], does: "New session" },
    ],
  },
];
