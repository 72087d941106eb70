/**
 * A command line to its words and back, by the quoting rules of a POSIX shell (XCU 2.2). No expansion of any
 * kind happens: `$HOME`, `*`, `|` and `;` are plain characters, because no shell will run the command.
 */

export class CommandLineError extends Error {
  override readonly name = "CommandLineError";
}

const BLANK = /\s/;
// The characters that a backslash escapes inside double quotes; before any other it stays (XCU 2.2.3).
const ESCAPABLE_IN_QUOTES = new Set(["$", "`", '"', "\\"]);
const SAFE_WORD = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** Split a command line into words. Throws CommandLineError for a quote that is not closed. */
export function splitCommandLine(line: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  let at = 0;
  while (at < line.length) {
    const char = line.charAt(at);
    if (BLANK.test(char)) {
      if (word !== null) words.push(word);
      word = null;
      at += 1;
    } else if (char === "'") {
      const end = line.indexOf("'", at + 1);
      if (end < 0) throw new CommandLineError("A single quote (') is not closed.");
      word = (word ?? "") + line.slice(at + 1, end);
      at = end + 1;
    } else if (char === '"') {
      const [text, end] = readDoubleQuoted(line, at + 1);
      word = (word ?? "") + text;
      at = end;
    } else if (char === "\\") {
      const next = line.charAt(at + 1);
      if (next === "") throw new CommandLineError("The line ends in a backslash (\\).");
      // A backslash and a newline are a line that goes on (XCU 2.2.1).
      if (next !== "\n") word = (word ?? "") + next;
      at += 2;
    } else {
      word = (word ?? "") + char;
      at += 1;
    }
  }
  if (word !== null) words.push(word);
  return words;
}

function readDoubleQuoted(line: string, start: number): [text: string, end: number] {
  let text = "";
  let at = start;
  while (at < line.length) {
    const char = line.charAt(at);
    if (char === '"') return [text, at + 1];
    const next = line.charAt(at + 1);
    if (char === "\\" && next === "\n") {
      at += 2;
    } else if (char === "\\" && ESCAPABLE_IN_QUOTES.has(next)) {
      text += next;
      at += 2;
    } else {
      text += char;
      at += 1;
    }
  }
  throw new CommandLineError('A double quote (") is not closed.');
}

/** Write words as a line that `splitCommandLine` (and a shell) reads back as the same words. */
export function joinCommandLine(words: readonly string[]): string {
  return words.map(quoteWord).join(" ");
}

function quoteWord(word: string): string {
  return SAFE_WORD.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
