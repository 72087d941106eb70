/**
 * One session at one viewer: owns the terminal, the connection, the offsets, the acks and the input.
 *
 * A plain class; React mounts its terminal and reads its small `state`. Bytes go from the socket to the terminal
 * and never through React. The rules it follows are in docs/protocol.md, section 2.
 */
import { AckPacer } from "../../transport/ackPacer";
import { type Clock, systemClock } from "../../transport/clock";
import {
  Connection,
  type ConnectionOptions,
  type ConnectionState,
  describeLoss,
  type Refusal,
} from "../../transport/connection";
import { InputQueue } from "../../transport/inputQueue";
import { type OutputStep, OutputStream } from "../../transport/outputStream";
import {
  type Attached,
  type Dimensions,
  decodeHqMessage,
  encodeViewerMessage,
  type HqMessage,
  type StartSession,
  type ViewerMessage,
} from "../../wire/messages";
import type { RunnerId, SessionId } from "../../wire/values";
import { controlKey } from "./keys";
import { isQueryReply } from "./queryReply";
import type { SessionState } from "./sessionState";
import { readText, type TerminalPort } from "./terminalPort";

/** What to look at: a session to be started, or one that is there. */
export type Target =
  | { kind: "start"; runnerId: RunnerId; request: StartSession }
  | { kind: "attach"; sessionId: SessionId };

/** What HQ's REST interface says about a target whose WebSocket was refused. */
export type Verdict = "reachable" | "unreachable" | "not_found" | "login_required";

export interface TerminalSessionOptions {
  target: Target;
  terminal: TerminalPort;
  /** Names this viewer over reconnects. */
  viewer: string;
  /** Start of HQ's WebSocket URLs, such as `ws://localhost:8080`. */
  wsBase: string;
  probe: (target: Target) => Promise<Verdict>;
  clock?: Clock;
  openSocket?: ConnectionOptions["openSocket"];
  random?: () => number;
}

/** While a window is dragged its size changes at every frame; programs redraw at every change. */
const RESIZE_DEBOUNCE_MS = 80;

/** CAN ends any half-received sequence, then RIS. In the stream, because writes are parsed later than now. */
const RESET = encode("\x18\x1bc");
const HIDE_CURSOR = encode("\x18\x1b[?25l");
const NOTHING = new Uint8Array(0);

export class TerminalSession {
  readonly terminal: TerminalPort;
  readonly #options: TerminalSessionOptions;
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #output = new OutputStream();
  readonly #input = new InputQueue();
  readonly #acks = new AckPacer();
  readonly #listeners = new Set<() => void>();
  #target: Target;
  #state: SessionState;
  /** True from `session_started` or `attached` until the socket is gone. */
  #attached = false;
  /** For each write that the terminal has not parsed, oldest first: whether it is replay. */
  readonly #unparsed: boolean[] = [];
  /** Writes before the last reset say nothing about offsets any more. */
  #generation = 0;
  #keyPressed = false;
  /** Size that fits the place the terminal is shown in; null while it is not shown. */
  #fit: Dimensions | null = null;
  #sentSize: Dimensions | null = null;
  #lastError: { code: string; message: string } | null = null;
  #cancelAck = () => {};
  #cancelResize = () => {};
  #cancelExpiry = () => {};

  constructor(options: TerminalSessionOptions) {
    this.#options = options;
    this.#target = options.target;
    this.#clock = options.clock ?? systemClock;
    this.terminal = options.terminal;
    const { target } = options;
    this.#state = {
      sessionId: target.kind === "attach" ? target.sessionId : null,
      runnerId: target.kind === "start" ? target.runnerId : null,
      phase: { name: target.kind === "start" ? "starting" : "connecting" },
      control: "nobody",
      pty: null,
      title: "",
      bells: 0,
      ctrl: false,
      notice: null,
    };
    this.#connection = new Connection(
      {
        onOpen: () => this.#onOpen(),
        onText: (text) => this.#onText(text),
        onBinary: (bytes) => this.#perform(this.#output.receiveBinary(bytes)),
        onLost: (code, reason) => this.#onLost(code, reason),
        onRefused: () => this.#onRefused(),
        onState: (state) => this.#onConnectionState(state),
      },
      {
        url: () => this.#url(),
        clock: this.#clock,
        ...(options.openSocket && { openSocket: options.openSocket }),
        ...(options.random && { random: options.random }),
      },
    );
    this.terminal.onKey?.(() => {
      this.#keyPressed = true;
    });
    this.terminal.onData((data) => this.#onData(data));
    this.terminal.onBinary((data) => this.#sendInput(Uint8Array.from(data, (char) => char.charCodeAt(0))));
    this.terminal.onTitleChange((title) => this.#update({ title }));
    this.terminal.onBell(() => {
      if (this.#unparsed[0] !== true) this.#update({ bells: this.#state.bells + 1 });
    });
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Offset of the first output byte not received. */
  get offset(): number {
    return this.#output.offset;
  }

  /** Call `listener` after every change of `state`; the returned function ends that. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getState = (): SessionState => this.#state;

  /** Dial. Call once the terminal has its place, so that a program starts with the right size. */
  connect(): void {
    this.#connection.dial();
  }

  /** Try again: now where a try is planned, also where none is because the last one failed for good. */
  retry(): void {
    if (this.#state.phase.name === "failed") {
      this.#update({ phase: { name: this.#target.kind === "start" ? "starting" : "connecting" } });
      this.#connection.dial();
    } else {
      this.hurry();
    }
  }

  /** Do not wait for the planned try: there is reason to believe that HQ can be reached. */
  hurry(): void {
    this.#connection.retryNow();
  }

  /** Detach, and free the terminal. The session goes on. */
  dispose(): void {
    this.#connection.stop();
    this.#cancelAck();
    this.#cancelResize();
    this.#cancelExpiry();
    this.#listeners.clear();
    this.terminal.dispose();
  }

  takeControl(): void {
    this.#send({ type: "take_control", payload: {} });
  }

  /** The place of the terminal has room for this size; null: it is not shown now. */
  setFit(fit: Dimensions | null): void {
    this.#fit = fit;
    if (!fit || !this.#mayResize) return;
    this.#resizeTerminal(fit);
    this.#cancelResize();
    this.#cancelResize = this.#clock.after(RESIZE_DEBOUNCE_MS, () => this.#sendSize());
  }

  /** Take a key that does not come through the terminal, such as an on-screen one. */
  type(text: string): void {
    this.#sendInput(encode(this.#withCtrl(text)));
  }

  /** Let Ctrl count for the next key, or no longer. */
  armCtrl(ctrl: boolean): void {
    this.#update({ ctrl });
  }

  readText(): string {
    return readText(this.terminal);
  }

  // ---- connection

  #url(): string {
    const target = this.#target;
    return target.kind === "start"
      ? `${this.#options.wsBase}/ws/terminal/${encodeURIComponent(target.runnerId)}`
      : `${this.#options.wsBase}/ws/session/${encodeURIComponent(target.sessionId)}`;
  }

  #onOpen(): void {
    const { viewer } = this.#options;
    const size = this.#fit ?? {};
    this.#lastError = null;
    if (this.#target.kind === "start") {
      this.#send({ type: "start_session", payload: { ...this.#target.request, ...size } });
      return;
    }
    const { epoch, resumeFrom } = this.#output;
    const resume = epoch !== null && resumeFrom !== null ? { from: resumeFrom, epoch } : {};
    this.#send({ type: "attach", payload: { ...resume, ...size, viewer } });
  }

  #onLost(code: number, reason: string): boolean {
    this.#detached();
    if (this.#isFinal) return false;
    if (this.#target.kind === "start") {
      this.#fail(
        "connection_lost",
        "The connection was lost before HQ confirmed the start. The session may be running: see the list of " +
          "sessions before you start it again.",
      );
      return false;
    }
    if (code === 1008) {
      this.#fail(this.#lastError?.code ?? "refused", this.#lastError?.message ?? describeLoss(code, reason));
      return false;
    }
    return true;
  }

  async #onRefused(): Promise<Refusal> {
    switch (await this.#options.probe(this.#target)) {
      case "unreachable":
        return { retry: true, reason: "HQ cannot be reached" };
      case "reachable":
        return { retry: true, reason: "HQ refused the connection" };
      case "login_required":
        this.#fail("login_required", "HQ asks you to log in again.");
        return { retry: false };
      case "not_found":
        if (this.#target.kind === "attach") this.#update({ phase: { name: "gone" } });
        else this.#fail("unknown_runner", `HQ does not know the runner ${this.#target.runnerId}.`);
        return { retry: false };
    }
  }

  #onConnectionState(state: ConnectionState): void {
    const phase = this.#state.phase;
    if (state.phase === "waiting") {
      this.#update({
        phase: { name: "reconnecting", reason: state.reason, retryAtMs: state.retryAtMs },
      });
    } else if (state.phase === "connecting" && phase.name === "reconnecting") {
      this.#update({ phase: { ...phase, retryAtMs: null } });
    }
  }

  #detached(): void {
    this.#attached = false;
    this.#sentSize = null;
    this.#cancelResize();
    this.#cancelAck();
    this.#input.receiveClosed(this.#clock.now());
    this.#watchExpiry();
  }

  #fail(code: string, message: string): void {
    this.#input.clear();
    this.#update({ phase: { name: "failed", code, message } });
  }

  get #isFinal(): boolean {
    return ["ended", "failed", "gone"].includes(this.#state.phase.name);
  }

  #send(message: ViewerMessage): void {
    this.#connection.send(encodeViewerMessage(message));
  }

  // ---- control messages

  #onText(text: string): void {
    const message = decodeHqMessage(text);
    if (message) this.#receive(message);
  }

  #receive(message: HqMessage): void {
    switch (message.type) {
      case "session_started": {
        const { session_id, runner_id, epoch, rows, cols } = message.payload;
        this.#target = { kind: "attach", sessionId: session_id };
        this.#output.receiveStarted(epoch);
        this.#attached = true;
        this.#update({
          sessionId: session_id,
          runnerId: runner_id,
          control: "you",
          pty: { rows, cols },
          phase: { name: "live" },
        });
        this.#sentSize = { rows, cols };
        this.#send({ type: "ack", payload: { offset: 0 } });
        // HQ counts the input of viewers that name themselves, which only `attach` can do.
        this.#openInput(null, false);
        this.#applyFit();
        break;
      }
      case "attached":
        this.#receiveAttached(message.payload, false);
        break;
      case "resync":
        this.#receiveAttached(message.payload, true);
        break;
      case "resized":
        this.#update({ pty: message.payload });
        if (this.#state.control !== "you") this.#perform([{ step: "resize", ...message.payload }]);
        break;
      case "control": {
        const { viewer, you } = message.payload;
        this.#update({ control: you ? "you" : viewer === null ? "nobody" : "other" });
        if (you) this.#applyFit();
        else if (this.#state.pty) this.#perform([{ step: "resize", ...this.#state.pty }]);
        break;
      }
      case "gap":
        this.#perform(this.#output.receiveGap(message.payload.from, message.payload.to));
        break;
      case "input_ack":
        this.#input.receiveAck(message.payload.offset);
        break;
      case "session_ended": {
        const { exit_code, signal } = message.payload;
        this.#input.clear();
        this.#write(HIDE_CURSOR, true, null);
        this.#update({ phase: { name: "ended", exit: { exit_code, signal } } });
        break;
      }
      case "error":
        this.#receiveError(message.payload.code, message.payload.message);
        break;
    }
  }

  #receiveAttached(message: Attached, resync: boolean): void {
    const { epoch, offset, control, rows, cols, input, replay } = message;
    if (this.#output.epoch !== null && this.#output.epoch !== epoch) this.#input.clear();
    const steps = this.#output.receiveAttached(message, { resync });
    const fresh = steps.some(({ step }) => step === "reset");
    const first = !this.#attached;
    this.#attached = true;
    this.#sentSize = { rows, cols };
    if (fresh) {
      this.#generation += 1;
      this.#acks.restart(replay.kind === "log" ? offset - replay.bytes : offset);
    }
    this.#send({ type: "ack", payload: { offset: this.#acks.shownOffset } });
    this.#update({
      control: control ? "you" : "other",
      pty: { rows, cols },
      phase: { name: replay.bytes > 0 ? "replaying" : "live" },
    });
    // A terminal that goes on in control keeps its own size, which it is about to send anyway.
    this.#perform(control && !fresh ? steps.filter(({ step }) => step !== "resize") : steps);
    if (first) this.#openInput(input, true);
    // With a replay, the end of the replay does it.
    if (replay.bytes === 0) this.#whenParsed(() => this.#applyFit());
  }

  #receiveError(code: string, message: string): void {
    this.#lastError = { code, message };
    if (this.#target.kind === "start") {
      this.#fail(code, message);
      this.#connection.stop();
    } else if (this.#attached) {
      if (code === "not_in_control" && this.#state.control === "you") this.#update({ control: "other" });
      this.#notify(message);
    }
  }

  // ---- output

  #perform(steps: readonly OutputStep[]): void {
    for (const step of steps) {
      switch (step.step) {
        case "reset":
          this.#write(RESET, true, null);
          break;
        case "resize":
          this.#whenParsed(() => this.#resizeTerminal(step));
          break;
        case "gap":
          this.#write(encode(gapLine(step.from, step.to)), true, step.to);
          break;
        case "write":
          this.#write(step.bytes, step.replay, step.offset);
          break;
      }
    }
  }

  #write(bytes: Uint8Array, replay: boolean, offset: number | null): void {
    const generation = this.#generation;
    this.#unparsed.push(replay);
    this.terminal.write(bytes, () => {
      this.#unparsed.shift();
      if (generation !== this.#generation) return;
      if (offset !== null) this.#acks.receiveShown(offset, this.#clock.now());
      this.#sendAckWhenDue();
      if (
        this.#state.phase.name === "replaying" &&
        !this.#output.replaying &&
        !this.#unparsed.includes(true)
      ) {
        this.#update({ phase: { name: "live" } });
        this.#applyFit();
      }
    });
  }

  /** Call `action` when the terminal has parsed all that was written to it so far. */
  #whenParsed(action: () => void): void {
    this.#unparsed.push(true);
    this.terminal.write(NOTHING, () => {
      this.#unparsed.shift();
      action();
    });
  }

  #sendAckWhenDue(): void {
    const dueAtMs = this.#acks.dueAtMs;
    if (dueAtMs === null || !this.#attached) return;
    const nowMs = this.#clock.now();
    const offset = this.#acks.take(nowMs);
    this.#cancelAck();
    if (offset !== null) this.#send({ type: "ack", payload: { offset } });
    else this.#cancelAck = this.#clock.after(dueAtMs - nowMs, () => this.#sendAckWhenDue());
  }

  // ---- size

  get #mayResize(): boolean {
    return this.#state.control === "you" && this.#state.phase.name !== "replaying" && !this.#isFinal;
  }

  #resizeTerminal({ rows, cols }: Dimensions): void {
    if (rows !== this.terminal.rows || cols !== this.terminal.cols) this.terminal.resize(cols, rows);
  }

  #applyFit(): void {
    if (!this.#fit || !this.#mayResize) return;
    this.#resizeTerminal(this.#fit);
    this.#sendSize();
  }

  #sendSize(): void {
    const fit = this.#fit;
    if (!fit || !this.#attached || !this.#mayResize) return;
    if (fit.rows === this.#sentSize?.rows && fit.cols === this.#sentSize.cols) return;
    this.#sentSize = fit;
    this.#send({ type: "resize", payload: fit });
  }

  // ---- input

  #onData(data: string): void {
    const typed = this.#keyPressed;
    this.#keyPressed = false;
    if (!typed && isQueryReply(data)) {
      // Exactly one party answers a program's query, and never one that it asked in the past.
      if (this.#unparsed[0] === true || this.#state.control !== "you" || !this.#attached) return;
    }
    this.#sendInput(encode(this.#withCtrl(data)));
  }

  #withCtrl(text: string): string {
    if (!this.#state.ctrl) return text;
    this.#update({ ctrl: false });
    return controlKey(text);
  }

  #sendInput(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#isFinal) return;
    if (this.#state.control === "other") {
      this.#notify("Another viewer is in control, so your input was not sent.");
      return;
    }
    for (const frame of this.#input.add(bytes, this.#clock.now())) this.#connection.send(frame);
    this.#watchExpiry();
  }

  #openInput(taken: number | null, counts: boolean): void {
    if (this.#state.control === "other" && this.#input.clear() > 0) {
      this.#notify("Another viewer took control, so what you typed meanwhile was not sent.");
    }
    const { frames, droppedBytes } = this.#input.receiveOpened(taken, this.#clock.now(), counts);
    this.#cancelExpiry();
    if (droppedBytes > 0) this.#notifyDropped(droppedBytes);
    for (const frame of frames) this.#connection.send(frame);
  }

  #watchExpiry(): void {
    this.#cancelExpiry();
    const expiresAtMs = this.#input.expiresAtMs;
    if (expiresAtMs === null) return;
    const nowMs = this.#clock.now();
    this.#cancelExpiry = this.#clock.after(Math.max(0, expiresAtMs - nowMs), () => {
      const droppedBytes = this.#input.dropExpired(this.#clock.now());
      if (droppedBytes > 0) this.#notifyDropped(droppedBytes);
      this.#watchExpiry();
    });
  }

  #notifyDropped(bytes: number): void {
    this.#notify(
      `${bytes === 1 ? "1 byte" : `${bytes} bytes`} of input waited more than 10 s for a connection and ` +
        `${bytes === 1 ? "was" : "were"} dropped.`,
    );
  }

  // ---- state

  #notify(text: string): void {
    this.#update({ notice: { id: (this.#state.notice?.id ?? 0) + 1, text } });
  }

  #update(change: Partial<SessionState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

function gapLine(from: number, to: number): string {
  // CAN ends a sequence whose rest is lost; the line starts at the left whatever was there.
  return `\x18\x1b[0m\r\n\x1b[7m ${(to - from).toLocaleString("en")} bytes of output are lost here \x1b[0m\r\n`;
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
}
