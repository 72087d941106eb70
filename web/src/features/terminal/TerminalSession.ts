/**
 * One session at one viewer: owns the terminal, the connection, the offsets, the acks and the input.
 *
 * A plain class; React mounts its terminal and reads its small `state`. Bytes go from the socket to the terminal
 * and never through React. The rules it follows are in docs/protocol.md, section 2; what it keeps here is the
 * conversation: `OutputStream` and `TerminalWriter` have the output, `InputSender` the input, `PtySize` the size.
 */
import { type Clock, systemClock } from "../../transport/clock";
import {
  Connection,
  type ConnectionOptions,
  type ConnectionState,
  describeLoss,
  type Refusal,
} from "../../transport/connection";
import { Liveness } from "../../transport/liveness";
import { OutputStream } from "../../transport/outputStream";
import {
  type Attached,
  type Dimensions,
  decodeHqMessage,
  encodeViewerMessage,
  type HqMessage,
  type SessionStarted,
  type StartSession,
  type ViewerMessage,
} from "../../wire/messages";
import type { RunnerId, SessionId } from "../../wire/values";
import { WireError } from "../../wire/wireError";
import { InputSender } from "./InputSender";
import { controlKey } from "./keys";
import { PtySize } from "./PtySize";
import type { SessionState } from "./sessionState";
import { TerminalWriter } from "./TerminalWriter";
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

export class TerminalSession {
  readonly terminal: TerminalPort;
  readonly #options: TerminalSessionOptions;
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #liveness = new Liveness();
  readonly #output = new OutputStream();
  readonly #writer: TerminalWriter;
  readonly #input: InputSender;
  readonly #size: PtySize;
  readonly #listeners = new Set<() => void>();
  #target: Target;
  #state: SessionState;
  /** True from `session_started` or `attached` until the socket is gone. */
  #attached = false;
  #lastError: { code: string; message: string } | null = null;
  #cancelCheck = () => {};

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
        onBinary: (bytes) => {
          this.#liveness.receive(this.#clock.now());
          this.#writer.perform(this.#output.receiveBinary(bytes));
        },
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
    this.#writer = new TerminalWriter(this.terminal, this.#clock, {
      sendAck: (offset) => this.#send({ type: "ack", payload: { offset } }),
      onHistoryParsed: () => {
        if (this.#state.phase.name !== "replaying" || this.#output.replaying) return;
        this.#update({ phase: { name: "live" } });
        this.#size.apply();
      },
    });
    const session = this;
    this.#input = new InputSender(this.#clock, {
      get control() {
        return session.#state.control;
      },
      get takesInput() {
        return !session.#isFinal;
      },
      get answersQueries() {
        return session.#attached && session.#state.control === "you" && !session.#writer.parsingHistory;
      },
      send: (frame) => this.#connection.send(frame),
      notify: (text) => this.#notify(text),
    });
    this.#size = new PtySize(this.#clock, {
      get choosesSize() {
        const { control, phase } = session.#state;
        return control === "you" && phase.name !== "replaying" && !session.#isFinal;
      },
      resizeTerminal: ({ rows, cols }) => {
        if (rows !== this.terminal.rows || cols !== this.terminal.cols) this.terminal.resize(cols, rows);
      },
      sendSize: (size) => this.#send({ type: "resize", payload: size }),
    });
    this.terminal.onKey?.(() => this.#input.receiveKey());
    this.terminal.onData((data) => this.#input.receiveData(data, (text) => this.#withCtrl(text)));
    this.terminal.onBinary((data) => {
      this.#input.sendBytes(Uint8Array.from(data, (char) => char.charCodeAt(0)));
    });
    this.terminal.onTitleChange((title) => this.#update({ title }));
    this.terminal.onBell(() => {
      if (!this.#writer.parsingHistory) this.#update({ bells: this.#state.bells + 1 });
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
    this.#detached();
    this.#input.clear();
    this.#listeners.clear();
    this.terminal.dispose();
  }

  takeControl(): void {
    this.#send({ type: "take_control", payload: {} });
  }

  /** The place of the terminal has room for this size; null: it is not shown now. */
  setFit(fit: Dimensions | null): void {
    this.#size.setFit(fit);
  }

  /** Take a key that does not come through the terminal, such as an on-screen one. */
  type(text: string): void {
    this.#input.sendText(this.#withCtrl(text));
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
    const size = this.#size.fit ?? {};
    this.#lastError = null;
    this.#liveness.receiveOpened(this.#clock.now());
    this.#checkLiveness();
    if (this.#target.kind === "start") {
      this.#send({ type: "start_session", payload: { ...this.#target.request, ...size, viewer } });
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
    this.#cancelCheck();
    this.#size.close();
    this.#writer.close();
    this.#input.close();
  }

  #checkLiveness(): void {
    const { verdict, againAtMs } = this.#liveness.check(this.#clock.now());
    if (verdict === "dead") {
      this.#connection.lose("nothing has arrived for 10 s");
      return;
    }
    if (verdict === "ask") this.#send({ type: "ping", payload: {} });
    this.#cancelCheck = this.#clock.after(againAtMs - this.#clock.now(), () => this.#checkLiveness());
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
    this.#liveness.receive(this.#clock.now());
    try {
      const message = decodeHqMessage(text);
      if (message) this.#receive(message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.#connection.lose(`HQ and this page do not understand each other: ${error.message}`);
    }
  }

  #receive(message: HqMessage): void {
    switch (message.type) {
      case "session_started":
        this.#receiveStarted(message.payload);
        break;
      case "attached":
        this.#receiveAttached(message.payload, false);
        break;
      case "resync":
        this.#receiveAttached(message.payload, true);
        break;
      case "resized":
        this.#update({ pty: message.payload });
        if (this.#state.control !== "you") this.#writer.resize(message.payload);
        break;
      case "control": {
        const { viewer, you } = message.payload;
        this.#update({ control: you ? "you" : viewer === null ? "nobody" : "other" });
        if (you) this.#size.apply();
        else if (this.#state.pty) this.#writer.resize(this.#state.pty);
        break;
      }
      case "gap":
        this.#writer.perform(this.#output.receiveGap(message.payload.from, message.payload.to));
        break;
      case "input_ack":
        this.#input.receiveAck(message.payload.offset);
        break;
      case "session_ended": {
        const { exit_code, signal } = message.payload;
        this.#input.clear();
        this.#writer.hideCursor();
        this.#update({ phase: { name: "ended", exit: { exit_code, signal } } });
        break;
      }
      case "pong":
        this.#liveness.receivePong();
        break;
      case "error":
        this.#receiveError(message.payload.code, message.payload.message);
        break;
    }
  }

  #receiveStarted({ session_id, runner_id, epoch, rows, cols }: SessionStarted): void {
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
    this.#writer.open(0);
    this.#input.open(0);
    this.#size.open({ rows, cols });
    this.#size.apply();
  }

  #receiveAttached(message: Attached, resync: boolean): void {
    const { epoch, offset, control, rows, cols, input, replay } = message;
    if (this.#output.epoch !== null && this.#output.epoch !== epoch) this.#input.clear();
    const steps = this.#output.receiveAttached(message, { resync });
    const fresh = steps.some(({ step }) => step === "reset");
    const first = !this.#attached;
    this.#attached = true;
    this.#size.open({ rows, cols });
    this.#writer.open(fresh ? (replay.kind === "log" ? offset - replay.bytes : offset) : null);
    this.#update({
      control: control ? "you" : "other",
      pty: { rows, cols },
      phase: { name: replay.bytes > 0 ? "replaying" : "live" },
    });
    // A terminal that goes on in control keeps its own size, which it is about to send anyway.
    this.#writer.perform(control && !fresh ? steps.filter(({ step }) => step !== "resize") : steps);
    if (first) this.#input.open(input);
    // With a replay, the end of the replay does it.
    if (replay.bytes === 0) this.#writer.whenParsed(() => this.#size.apply());
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

  // ---- state

  /** Ctrl of the key bar counts for one key. */
  #withCtrl(text: string): string {
    if (!this.#state.ctrl) return text;
    this.#update({ ctrl: false });
    return controlKey(text);
  }

  #notify(text: string): void {
    this.#update({ notice: { id: (this.#state.notice?.id ?? 0) + 1, text } });
  }

  #update(change: Partial<SessionState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}
