/** When to tell HQ what has been shown: at once after 128 KiB, else 50 ms after the first byte not told. */

/** A quarter of the 524,288 bytes that HQ sends beyond the last ack, so that the flow never stops in between. */
const ACK_BYTES = 131_072;
const ACK_MS = 50;

export class AckPacer {
  #shown = 0;
  #acked = 0;
  #dueAtMs: number | null = null;

  /** When `take` has to be called, in ms on the caller's clock; null: nothing to tell. */
  get dueAtMs(): number | null {
    return this.#dueAtMs;
  }

  /** Everything before it is shown. */
  get shownOffset(): number {
    return this.#shown;
  }

  /** A stream begins, or continues, at `offset`: everything before it is settled. */
  restart(offset: number): void {
    this.#shown = offset;
    this.#acked = offset;
    this.#dueAtMs = null;
  }

  /** Everything before `offset` is shown. */
  receiveShown(offset: number, nowMs: number): void {
    if (offset <= this.#shown) return;
    this.#shown = offset;
    const dueAtMs = this.#shown - this.#acked >= ACK_BYTES ? nowMs : nowMs + ACK_MS;
    this.#dueAtMs = Math.min(this.#dueAtMs ?? dueAtMs, dueAtMs);
  }

  /** Give the offset to acknowledge if it is time to, else null. */
  take(nowMs: number): number | null {
    if (this.#dueAtMs === null || nowMs < this.#dueAtMs) return null;
    this.#dueAtMs = null;
    this.#acked = this.#shown;
    return this.#shown;
  }
}
