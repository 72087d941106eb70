/** The part of xterm.js that a TerminalSession needs; the headless build of it is enough. */
import type { IBuffer, IDisposable } from "@xterm/xterm";

export interface TerminalPort {
  readonly rows: number;
  readonly cols: number;
  readonly buffer: { readonly active: IBuffer };
  write(data: Uint8Array, callback?: () => void): void;
  resize(columns: number, rows: number): void;
  onData(listener: (data: string) => void): IDisposable;
  onBinary(listener: (data: string) => void): IDisposable;
  onBell(listener: () => void): IDisposable;
  onTitleChange(listener: (title: string) => void): IDisposable;
  /** Fires right before the `onData` of a pressed key. The headless build has no keys. */
  onKey?(listener: () => void): IDisposable;
  dispose(): void;
}

/** Give the text of the active buffer with its scrollback; a line that was wrapped is one line. */
export function readText(terminal: TerminalPort): string {
  const buffer = terminal.buffer.active;
  const lines: string[] = [];
  for (let row = 0; row < buffer.length; row += 1) {
    const line = buffer.getLine(row);
    if (!line) break;
    const continues = buffer.getLine(row + 1)?.isWrapped ?? false;
    const text = line.translateToString(!continues);
    if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
    else lines.push(text);
  }
  return lines.join("\n").trimEnd();
}
