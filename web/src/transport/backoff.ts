/** When to dial again: docs/protocol.md 3.5. Knows no timer and no socket. */

const QUICK_TRIES = 3;
const QUICK_MS = 200;
/** So long after the loss, whoever restarts is noticed within SOON_MOST_MS. */
const SOON_FOR_MS = 60_000;
const SOON_LEAST_MS = 500;
const SOON_MOST_MS = 1_500;
const MOST_MS = 15_000;
/** A connection that lived this long was healthy: what comes after it starts from the beginning. */
const HEALTHY_MS = 10_000;

export class Backoff {
  #failures = 0;
  #lostAtMs = 0;
  #openedAtMs: number | null = null;
  readonly #random: () => number;

  /** @param random gives a number in [0, 1). */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** The connection is established. */
  receiveOpened(nowMs: number): void {
    this.#openedAtMs = nowMs;
  }

  /** The connection, or the attempt, is over. Gives how long to wait before the next attempt, in ms. */
  receiveClosed(nowMs: number): number {
    if (this.#openedAtMs !== null && nowMs - this.#openedAtMs >= HEALTHY_MS) this.#failures = 0;
    this.#openedAtMs = null;
    const failures = this.#failures;
    this.#failures += 1;
    if (failures === 0) {
      this.#lostAtMs = nowMs;
      // The first try waits half of the quick pause at most: a cut socket is usually back at once.
      return this.#random() * (QUICK_MS / 2);
    }
    if (failures < QUICK_TRIES) return QUICK_MS * (0.5 + this.#random());
    if (nowMs - this.#lostAtMs < SOON_FOR_MS) {
      return SOON_LEAST_MS + this.#random() * (SOON_MOST_MS - SOON_LEAST_MS);
    }
    return Math.max(SOON_LEAST_MS, this.#random() * MOST_MS);
  }

  /** Forget all failures: there is news, such as that the network is back. */
  reset(): void {
    this.#failures = 0;
  }
}
