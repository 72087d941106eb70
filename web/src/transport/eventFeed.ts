/**
 * HQ's server-sent events, coming back by themselves.
 *
 * A browser's EventSource gives up for good at an HTTP error and waits seconds after a cut, so each loss makes a
 * new one after the pause of `Backoff`. A new one begins with a snapshot, which makes up for all that was missed.
 */
import { decodeEvent } from "../wire/directory";
import { eventKinds, type HqEvent } from "../wire/objects";
import { Backoff } from "./backoff";
import { type Clock, systemClock } from "./clock";

/** The part of a browser's EventSource that is used. */
export interface EventSourceLike {
  addEventListener(type: string, listener: (event: { data: string }) => void): void;
  onerror: (() => void) | null;
  close(): void;
}

export interface EventFeedOwner {
  onEvent(event: HqEvent): void;
  /** True once a snapshot has arrived, false when the source is lost. */
  onLive(live: boolean): void;
}

export interface EventFeedOptions {
  openSource?: () => EventSourceLike;
  clock?: Clock;
  random?: () => number;
}

export class EventFeed {
  readonly #owner: EventFeedOwner;
  readonly #openSource: () => EventSourceLike;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #source: EventSourceLike | null = null;
  #cancelRetry = () => {};

  constructor(owner: EventFeedOwner, options: EventFeedOptions = {}) {
    this.#owner = owner;
    this.#openSource =
      options.openSource ?? (() => new EventSource("/api/events") as unknown as EventSourceLike);
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(options.random);
  }

  start(): void {
    this.stop();
    const source = this.#openSource();
    this.#source = source;
    for (const kind of eventKinds) {
      source.addEventListener(kind, ({ data }) => {
        const event = decodeEvent(kind, data);
        this.#owner.onEvent(event);
        if (kind !== "snapshot") return;
        this.#backoff.receiveOpened(this.#clock.now());
        this.#owner.onLive(true);
      });
    }
    source.onerror = () => {
      this.stop();
      this.#owner.onLive(false);
      const delayMs = this.#backoff.receiveClosed(this.#clock.now());
      this.#cancelRetry = this.#clock.after(delayMs, () => this.start());
    };
  }

  stop(): void {
    this.#cancelRetry();
    this.#source?.close();
    this.#source = null;
  }
}
