/** Time as the transport sees it; tests put their own in its place. */
export interface Clock {
  /** Milliseconds on a clock that never goes back. */
  now(): number;
  /** Call `callback` after `delayMs`; the returned function takes that back. */
  after(delayMs: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
