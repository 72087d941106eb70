/** The size of the PTY as this viewer wants it: told to HQ while it is in control, and once it has settled. */
import type { Clock } from "../../transport/clock";
import type { Dimensions } from "../../wire/messages";

export interface SizeOwner {
  /** Whether the size of the terminal is this viewer's to choose. */
  readonly choosesSize: boolean;
  resizeTerminal(size: Dimensions): void;
  sendSize(size: Dimensions): void;
}

/** While a window is dragged its size changes at every frame; programs redraw at every change. */
const DEBOUNCE_MS = 80;

export class PtySize {
  readonly #owner: SizeOwner;
  readonly #clock: Clock;
  #fit: Dimensions | null = null;
  /** What the PTY has, or was told; null: nobody to tell. */
  #known: Dimensions | null = null;
  #cancelSend = () => {};

  constructor(clock: Clock, owner: SizeOwner) {
    this.#clock = clock;
    this.#owner = owner;
  }

  /** Size that fits the place the terminal is shown in; null while it is not shown. */
  get fit(): Dimensions | null {
    return this.#fit;
  }

  setFit(fit: Dimensions | null): void {
    this.#fit = fit;
    if (!fit || !this.#owner.choosesSize) return;
    this.#owner.resizeTerminal(fit);
    this.#cancelSend();
    this.#cancelSend = this.#clock.after(DEBOUNCE_MS, () => this.#send());
  }

  /** A connection is there, and the PTY has this size. */
  open(pty: Dimensions): void {
    this.#known = pty;
  }

  close(): void {
    this.#known = null;
    this.#cancelSend();
  }

  /** Give the PTY the size that fits, if it is ours to choose. */
  apply(): void {
    if (!this.#fit || !this.#owner.choosesSize) return;
    this.#owner.resizeTerminal(this.#fit);
    this.#send();
  }

  #send(): void {
    const fit = this.#fit;
    if (!fit || !this.#known || !this.#owner.choosesSize) return;
    if (fit.rows === this.#known.rows && fit.cols === this.#known.cols) return;
    this.#known = fit;
    this.#owner.sendSize(fit);
  }
}
