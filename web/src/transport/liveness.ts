/**
 * Whether a connection is still one: a black hole sends nothing, not even an end, and a browser does not show the
 * page the pings of a WebSocket. docs/protocol.md section 1.
 */

/** Silence after which the other side is asked for a sign of life. */
const SILENCE_MS = 5_000;
/** How long it may take to give one. */
const PATIENCE_MS = 5_000;

export class Liveness {
  #heardAtMs = 0;
  #askedAtMs: number | null = null;
  /** An HQ that has never answered does not know the question. */
  #answers = false;

  /** A connection is there. */
  receiveOpened(nowMs: number): void {
    this.#heardAtMs = nowMs;
    this.#askedAtMs = null;
  }

  /** Something arrived. */
  receive(nowMs: number): void {
    this.#heardAtMs = nowMs;
    this.#askedAtMs = null;
  }

  receivePong(): void {
    this.#answers = true;
  }

  /** Tell what to do now, and when to ask again, in ms on the caller's clock. */
  check(nowMs: number): { verdict: "alive" | "ask" | "dead"; againAtMs: number } {
    if (this.#askedAtMs !== null) {
      const dueAtMs = this.#askedAtMs + PATIENCE_MS;
      if (nowMs < dueAtMs) return { verdict: "alive", againAtMs: dueAtMs };
      if (this.#answers) return { verdict: "dead", againAtMs: nowMs };
    } else if (nowMs < this.#heardAtMs + SILENCE_MS) {
      return { verdict: "alive", againAtMs: this.#heardAtMs + SILENCE_MS };
    }
    this.#askedAtMs = nowMs;
    return { verdict: "ask", againAtMs: nowMs + PATIENCE_MS };
  }
}
