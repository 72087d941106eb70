/** The way of input out of a terminal: what is a person's, what may be sent, and what has waited too long. */
import type { Clock } from "../../transport/clock";
import { InputQueue } from "../../transport/inputQueue";
import { isQueryReply } from "./queryReply";
import type { Control } from "./sessionState";

export interface InputOwner {
  readonly control: Control;
  /** Whether the session takes input at all, now or once it is connected. */
  readonly takesInput: boolean;
  /** Whether a query that the terminal answers now is one that this viewer has to answer. */
  readonly answersQueries: boolean;
  send(frame: Uint8Array<ArrayBuffer>): void;
  notify(text: string): void;
}

export class InputSender {
  readonly #owner: InputOwner;
  readonly #clock: Clock;
  readonly #queue = new InputQueue();
  #keyPressed = false;
  /** Since the connection was lost. */
  #droppedBytes = 0;
  #cancelExpiry = () => {};

  constructor(clock: Clock, owner: InputOwner) {
    this.#clock = clock;
    this.#owner = owner;
  }

  /** The terminal is about to send what a pressed key means. */
  receiveKey(): void {
    this.#keyPressed = true;
  }

  /**
   * Take what the terminal sends: typed by a person, or its own answer to a query.
   *
   * @param change is applied to what a person typed.
   */
  receiveData(data: string, change: (text: string) => string): void {
    const typed = this.#keyPressed;
    this.#keyPressed = false;
    if (typed || !isQueryReply(data)) this.sendText(change(data));
    else if (this.#owner.answersQueries) this.sendText(data);
  }

  sendText(text: string): void {
    this.sendBytes(new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
  }

  sendBytes(bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#owner.takesInput) return;
    if (this.#owner.control === "other") {
      this.#owner.notify("Another viewer is in control, so your input was not sent.");
      return;
    }
    for (const frame of this.#queue.add(bytes, this.#clock.now())) this.#owner.send(frame);
    this.#watchExpiry();
  }

  /** A connection takes input. For `taken` see `InputQueue.receiveOpened`. */
  open(taken: number | null): void {
    if (this.#owner.control === "other" && this.#queue.clear() > 0) {
      this.#owner.notify("Another viewer took control, so what you typed meanwhile was not sent.");
    }
    const { frames, droppedBytes } = this.#queue.receiveOpened(taken, this.#clock.now());
    this.#cancelExpiry();
    this.#notifyDropped(droppedBytes);
    this.#droppedBytes = 0;
    for (const frame of frames) this.#owner.send(frame);
  }

  close(): void {
    this.#queue.receiveClosed(this.#clock.now());
    this.#watchExpiry();
  }

  receiveAck(offset: number): void {
    this.#queue.receiveAck(offset);
  }

  /** Forget what waits: there is no program any more that it was meant for. */
  clear(): void {
    this.#queue.clear();
    this.#cancelExpiry();
  }

  #watchExpiry(): void {
    this.#cancelExpiry();
    const expiresAtMs = this.#queue.expiresAtMs;
    if (expiresAtMs === null) return;
    this.#cancelExpiry = this.#clock.after(Math.max(0, expiresAtMs - this.#clock.now()), () => {
      this.#notifyDropped(this.#queue.dropExpired(this.#clock.now()));
      this.#watchExpiry();
    });
  }

  #notifyDropped(bytes: number): void {
    if (bytes === 0) return;
    this.#droppedBytes += bytes;
    const what = this.#droppedBytes === 1 ? "1 byte of input" : `${this.#droppedBytes} bytes of input`;
    this.#owner.notify(`No connection for more than 10 s: ${what} dropped, not sent.`);
  }
}
