/**
 * Input on its way to HQ: docs/protocol.md 2.4.
 *
 * Keeps every byte until HQ has acknowledged it, so that a new connection goes on where HQ stopped; drops what
 * has waited for a connection too long, because a command typed half a minute ago may do harm now.
 */

/** How long input may wait for a connection, in ms. */
export const INPUT_WAIT_MS = 10_000;

/** A paste goes as one message, into which nobody else's input can come, up to what HQ takes in one. */
const MAX_FRAME_BYTES = 1 << 20;

type Bytes = Uint8Array<ArrayBuffer>;

interface Piece {
  bytes: Bytes;
  waitingSinceMs: number;
  sent: boolean;
}

export class InputQueue {
  #pieces: Piece[] = [];
  /** Input offset of the first byte in `#pieces`. */
  #base = 0;
  #open = false;

  /** Bytes that HQ has not taken, as far as is known. */
  get waitingBytes(): number {
    return this.#pieces.reduce((sum, piece) => sum + piece.bytes.length, 0);
  }

  /** When the oldest waiting input is to be dropped, in ms on the caller's clock; null: none waits. */
  get expiresAtMs(): number | null {
    const oldest = this.#pieces[0];
    return this.#open || !oldest ? null : oldest.waitingSinceMs + INPUT_WAIT_MS;
  }

  /** Take input. Gives the frames to send now; they are the caller's until sent. */
  add(bytes: Bytes, nowMs: number): Bytes[] {
    const frames: Bytes[] = [];
    for (let at = 0; at < bytes.length; at += MAX_FRAME_BYTES) {
      frames.push(bytes.subarray(at, at + MAX_FRAME_BYTES));
    }
    const sent = this.#open;
    this.#pieces.push(...frames.map((frame) => ({ bytes: frame, waitingSinceMs: nowMs, sent })));
    return this.#open ? frames : [];
  }

  /**
   * A connection is ready for input.
   *
   * @param taken how many bytes HQ has taken from this viewer so far; null where it does not know: then what
   *   was ever sent is not sent again, because it may have been taken.
   * @returns the frames to send now, and how many bytes were dropped because they had waited too long.
   */
  receiveOpened(taken: number | null, nowMs: number): { frames: Bytes[]; droppedBytes: number } {
    if (taken === null) this.#pieces = this.#pieces.filter((piece) => !piece.sent);
    else this.receiveAck(taken);
    const droppedBytes = this.dropExpired(nowMs);
    // What was dropped was never taken, so the next byte continues HQ's count and not ours.
    this.#base = taken ?? 0;
    this.#open = true;
    for (const piece of this.#pieces) piece.sent = true;
    const frames = this.#pieces.map((piece) => piece.bytes);
    return { frames, droppedBytes };
  }

  receiveClosed(nowMs: number): void {
    if (!this.#open) return;
    this.#open = false;
    // From now on it waits for a connection; until now it only waited for an acknowledgement.
    for (const piece of this.#pieces) piece.waitingSinceMs = nowMs;
  }

  /** HQ has taken every byte before `offset`. */
  receiveAck(offset: number): void {
    while (this.#pieces[0] && this.#base < offset) {
      const { bytes } = this.#pieces[0];
      const taken = Math.min(bytes.length, offset - this.#base);
      this.#base += taken;
      if (taken === bytes.length) this.#pieces.shift();
      else this.#pieces[0].bytes = bytes.subarray(taken);
    }
  }

  /** Drop what has waited too long. Gives the number of bytes dropped. */
  dropExpired(nowMs: number): number {
    if (this.#open) return 0;
    const kept = this.#pieces.filter((piece) => nowMs - piece.waitingSinceMs < INPUT_WAIT_MS);
    const before = this.waitingBytes;
    this.#pieces = kept;
    return before - this.waitingBytes;
  }

  /** Drop everything. Gives the number of bytes dropped. */
  clear(): number {
    const dropped = this.waitingBytes;
    this.#pieces = [];
    return dropped;
  }
}
