/**
 * One WebSocket that comes back by itself.
 *
 * Dials, waits as `Backoff` says after each loss, and tells its owner what happens. What is said over the socket
 * is the owner's. Works with any object that has the interface of a browser's WebSocket.
 */
import { Backoff } from "./backoff";
import { type Clock, systemClock } from "./clock";

/** The part of a browser's WebSocket that is used. */
export interface SocketLike {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

export type ConnectionState =
  | { phase: "connecting" }
  | { phase: "open" }
  | { phase: "waiting"; reason: string; retryAtMs: number }
  | { phase: "stopped" };

/** Why a dial was refused, found out by other means, since a browser hides the HTTP answer of an upgrade. */
export type Refusal = { retry: true; reason: string } | { retry: false };

export interface ConnectionOwner {
  onOpen(): void;
  onText(text: string): void;
  onBinary(bytes: Uint8Array<ArrayBuffer>): void;
  /** The open socket is gone. Return false to end here: no further attempt. */
  onLost(code: number, reason: string): boolean;
  /** A dial failed before the socket opened. */
  onRefused(): Promise<Refusal>;
  onState(state: ConnectionState): void;
}

export interface ConnectionOptions {
  /** Where to dial, asked before every attempt. */
  url: () => string;
  openSocket?: (url: string) => SocketLike;
  clock?: Clock;
  random?: () => number;
}

/** An attempt that has not opened by then is given up: a black hole sends no refusal. */
const DIAL_TIMEOUT_MS = 8_000;

export class Connection {
  readonly #owner: ConnectionOwner;
  readonly #url: () => string;
  readonly #openSocket: (url: string) => SocketLike;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #socket: SocketLike | null = null;
  #opened = false;
  #cancelTimer: () => void = () => {};
  #state: ConnectionState = { phase: "stopped" };

  constructor(owner: ConnectionOwner, options: ConnectionOptions) {
    this.#owner = owner;
    this.#url = options.url;
    this.#openSocket = options.openSocket ?? ((url) => new WebSocket(url) as SocketLike);
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(options.random);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Dial now, unless a socket is open or being opened. */
  dial(): void {
    if (this.#socket) return;
    this.#cancelTimer();
    this.#setState({ phase: "connecting" });
    const socket = this.#openSocket(this.#url());
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#opened = false;
    this.#cancelTimer = this.#clock.after(DIAL_TIMEOUT_MS, () => this.lose("HQ does not answer"));
    socket.onopen = () => {
      this.#cancelTimer();
      this.#opened = true;
      this.#backoff.receiveOpened(this.#clock.now());
      this.#setState({ phase: "open" });
      this.#owner.onOpen();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#owner.onText(data);
      else if (data instanceof ArrayBuffer) this.#owner.onBinary(new Uint8Array(data));
    };
    socket.onclose = ({ code, reason }) => this.#receiveClosed(socket, code, reason);
  }

  /** Send on the open socket. Gives false, and sends nothing, where there is none. */
  send(data: string | Uint8Array<ArrayBuffer>): boolean {
    if (!this.#socket || !this.#opened) return false;
    this.#socket.send(data);
    return true;
  }

  /** Dial at once instead of waiting out the pause. */
  retryNow(): void {
    if (this.#state.phase !== "waiting") return;
    this.#backoff.reset();
    this.dial();
  }

  /** Give the present socket up as dead, for `reason`, and go on as after any loss. */
  lose(reason: string): void {
    const socket = this.#socket;
    if (!socket) return;
    const opened = this.#opened;
    this.#release();
    socket.close();
    if (opened && !this.#owner.onLost(1006, reason)) this.#setState({ phase: "stopped" });
    else this.#wait(reason);
  }

  /** Close for good; `dial` starts again. */
  stop(): void {
    const socket = this.#socket;
    this.#release();
    socket?.close(1000);
    this.#setState({ phase: "stopped" });
  }

  #receiveClosed(socket: SocketLike, code: number, reason: string): void {
    if (socket !== this.#socket) return;
    const opened = this.#opened;
    this.#release();
    if (opened) {
      if (this.#owner.onLost(code, reason)) this.#wait(describeLoss(code, reason));
      else this.#setState({ phase: "stopped" });
      return;
    }
    this.#wait("HQ does not answer");
    const waiting = this.#state;
    void this.#owner.onRefused().then((refusal) => {
      if (this.#state !== waiting || waiting.phase !== "waiting") return;
      if (refusal.retry) {
        this.#setState({ ...waiting, reason: refusal.reason });
      } else {
        this.#cancelTimer();
        this.#setState({ phase: "stopped" });
      }
    });
  }

  #wait(reason: string): void {
    const nowMs = this.#clock.now();
    const retryAtMs = nowMs + this.#backoff.receiveClosed(nowMs);
    this.#cancelTimer = this.#clock.after(retryAtMs - nowMs, () => this.dial());
    this.#setState({ phase: "waiting", reason, retryAtMs });
  }

  #release(): void {
    this.#cancelTimer();
    if (this.#socket) {
      this.#socket.onopen = null;
      this.#socket.onmessage = null;
      this.#socket.onclose = null;
    }
    this.#socket = null;
    this.#opened = false;
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#owner.onState(state);
  }
}

/** Close codes of docs/protocol.md section 1, in words. */
export function describeLoss(code: number, reason: string): string {
  switch (code) {
    case 1001:
      return "HQ is shutting down";
    case 1011:
      return "HQ had an internal fault";
    case 1012:
      return "HQ is restarting";
    case 1006:
      return reason || "the connection was lost";
    default:
      return reason || `the connection was closed with code ${code}`;
  }
}
