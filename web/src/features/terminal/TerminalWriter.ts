/**
 * The way of output into a terminal, and of acknowledgements back.
 *
 * A terminal parses what it is written later, in pieces, so everything that depends on how far it is (a reset, a
 * new size, an ack, whether it is parsing history) travels in the order of the writes.
 */
import { AckPacer } from "../../transport/ackPacer";
import type { Clock } from "../../transport/clock";
import type { OutputStep } from "../../transport/outputStream";
import type { Dimensions } from "../../wire/messages";
import type { TerminalPort } from "./terminalPort";

export interface WriterOwner {
  sendAck(offset: number): void;
  /** The terminal has parsed all history that was written to it so far. */
  onHistoryParsed(): void;
}

/** CAN ends any half-received sequence. */
const CAN = "\x18";
const RESET = encodeText(`${CAN}\x1bc`);
const HIDE_CURSOR = encodeText(`${CAN}\x1b[?25l`);
const NOTHING = new Uint8Array(0);

export class TerminalWriter {
  readonly #terminal: TerminalPort;
  readonly #clock: Clock;
  readonly #owner: WriterOwner;
  readonly #acks = new AckPacer();
  /** For each write that is not parsed, oldest first: whether it is history, or something of our own. */
  readonly #unparsed: boolean[] = [];
  /** Writes before the last reset say nothing about offsets any more. */
  #generation = 0;
  #open = false;
  #cancelAck = () => {};

  constructor(terminal: TerminalPort, clock: Clock, owner: WriterOwner) {
    this.#terminal = terminal;
    this.#clock = clock;
    this.#owner = owner;
  }

  /** Whether the terminal, if it is parsing now, is parsing something that no live program has just said. */
  get parsingHistory(): boolean {
    return this.#unparsed[0] === true;
  }

  /** A connection is there. `from`: where the stream begins anew; null where it goes on. */
  open(from: number | null): void {
    this.#open = true;
    if (from !== null) {
      this.#generation += 1;
      this.#acks.restart(from);
    }
    // The first ack makes HQ bound what is in flight.
    this.#owner.sendAck(this.#acks.shownOffset);
  }

  /** The connection is gone; what is written is still parsed. */
  close(): void {
    this.#open = false;
    this.#cancelAck();
  }

  perform(steps: readonly OutputStep[]): void {
    for (const step of steps) {
      switch (step.step) {
        case "reset":
          this.#write(RESET, true, null);
          break;
        case "resize":
          this.resize(step);
          break;
        case "gap":
          this.#write(encodeText(gapLine(step.from, step.to)), true, step.to);
          break;
        case "write":
          this.#write(step.bytes, step.replay, step.offset);
          break;
      }
    }
  }

  /** Give the terminal another size once it has parsed what was written at the present one. */
  resize({ rows, cols }: Dimensions): void {
    this.whenParsed(() => this.#terminal.resize(cols, rows));
  }

  hideCursor(): void {
    this.#write(HIDE_CURSOR, true, null);
  }

  /** Call `action` when the terminal has parsed all that was written to it so far. */
  whenParsed(action: () => void): void {
    this.#unparsed.push(true);
    this.#terminal.write(NOTHING, () => {
      this.#unparsed.shift();
      action();
    });
  }

  #write(bytes: Uint8Array, history: boolean, offset: number | null): void {
    const generation = this.#generation;
    this.#unparsed.push(history);
    this.#terminal.write(bytes, () => {
      this.#unparsed.shift();
      if (generation !== this.#generation) return;
      if (offset !== null) this.#acks.receiveShown(offset, this.#clock.now());
      this.#sendAckWhenDue();
      if (history && !this.#unparsed.includes(true)) this.#owner.onHistoryParsed();
    });
  }

  #sendAckWhenDue(): void {
    const dueAtMs = this.#acks.dueAtMs;
    if (dueAtMs === null || !this.#open) return;
    const nowMs = this.#clock.now();
    const offset = this.#acks.take(nowMs);
    this.#cancelAck();
    if (offset !== null) this.#owner.sendAck(offset);
    else this.#cancelAck = this.#clock.after(dueAtMs - nowMs, () => this.#sendAckWhenDue());
  }
}

/** A line of its own at the left, whatever was there. */
function gapLine(from: number, to: number): string {
  const size = (to - from).toLocaleString("en");
  return `${CAN}\x1b[0m\r\n\x1b[7m ${size} bytes of output are lost here \x1b[0m\r\n`;
}

function encodeText(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
