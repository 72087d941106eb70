/** When to dial again: docs/protocol.md 3.5. Knows no timer and no socket. */

const QUICK_TRIES = 3;
const QUICK_MS = 200;
const SLOWEST_MS = 15_000;
const FASTEST_SLOW_MS = 500;
/** A connection that lived this long was healthy: what comes after it starts from the beginning. */
const HEALTHY_MS = 10_000;

export class Backoff {
  #failures = 0;
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
    // The first try waits half of the quick pause at most: a cut socket is usually back at once.
    if (failures === 0) return this.#random() * (QUICK_MS / 2);
    if (failures < QUICK_TRIES) return QUICK_MS * (0.5 + this.#random());
    const ceiling = Math.min(SLOWEST_MS, 2 * FASTEST_SLOW_MS * 2 ** (failures - QUICK_TRIES));
    return Math.max(FASTEST_SLOW_MS, this.#random() * ceiling);
  }

  /** Forget all failures: there is news, such as that the network is back. */
  reset(): void {
    this.#failures = 0;
  }
}
