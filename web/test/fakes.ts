/** A clock and a socket that do what a test tells them. */
import type { Clock } from "../src/transport/clock";
import type { SocketLike } from "../src/transport/connection";

export class FakeClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; callback: () => void }[] = [];

  now(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Let `ms` pass, calling what becomes due, in order. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const [due] = this.#timers.filter((timer) => timer.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
      if (!due) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.callback();
    }
    this.#nowMs = untilMs;
  }
}

export class FakeSocket implements SocketLike {
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: (string | Uint8Array)[] = [];
  closed = false;
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  send(data: string | Uint8Array): void {
    this.sent.push(typeof data === "string" ? data : data.slice());
  }

  close(): void {
    this.closed = true;
  }

  /** The payloads of the sent control messages of this type, oldest first. */
  said(type: string): Record<string, unknown>[] {
    return this.sent
      .filter((data) => typeof data === "string")
      .map((text) => JSON.parse(text))
      .filter((message) => message.type === type)
      .map((message) => message.payload);
  }

  /** All sent binary bytes, as text. */
  typed(): string {
    return this.sent
      .filter((data) => data instanceof Uint8Array)
      .map((bytes) => new TextDecoder().decode(bytes))
      .join("");
  }

  receive(type: string, payload: object): void {
    this.onmessage?.({ data: JSON.stringify({ type, payload }) });
  }

  receiveBytes(data: string | Uint8Array): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    this.onmessage?.({ data: bytes.slice().buffer });
  }

  lose(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}

/** Gives a socket opener, and the sockets that it opened. */
export function fakeNetwork(): { openSocket: (url: string) => FakeSocket; sockets: FakeSocket[] } {
  const sockets: FakeSocket[] = [];
  return {
    sockets,
    openSocket(url) {
      const socket = new FakeSocket(url);
      sockets.push(socket);
      return socket;
    },
  };
}
