/**
 * Where the output of one session stands at one viewer: docs/protocol.md 2.2.
 *
 * Control messages and binary frames go in, in the order of the socket; what to do with the terminal comes out.
 * Knows neither terminal nor socket, and never copies a byte: what it gives out are views of what came in.
 */
import type { Attached } from "../wire/messages";

export type OutputStep =
  /** The terminal is to be emptied: what follows is not a continuation of what it shows. */
  | { step: "reset" }
  | { step: "resize"; rows: number; cols: number }
  /** Bytes for the terminal. `offset` is the stream's offset once they are shown. */
  | { step: "write"; bytes: Uint8Array; replay: boolean; offset: number }
  /** Output that nobody has any more. */
  | { step: "gap"; from: number; to: number };

export class OutputStream {
  #epoch: string | null = null;
  /** Offset of the first byte that the terminal was not given. */
  #next = 0;
  /** Offset of the next byte on the socket. Behind `#next` while HQ sends again what we have. */
  #position = 0;
  #replayLeft = 0;
  #replayIsSnapshot = false;
  /** Where live output starts, once the replay is over. */
  #liveFrom = 0;

  get epoch(): string | null {
    return this.#epoch;
  }

  /** What to ask for when attaching, or null where the terminal shows nothing of the session yet. */
  get resumeFrom(): number | null {
    return this.#epoch === null || this.#snapshotIncomplete ? null : this.#next;
  }

  /** Offset of the first byte not received. */
  get offset(): number {
    return this.#next;
  }

  /** Whether the bytes that come next are replay. */
  get replaying(): boolean {
    return this.#replayLeft > 0;
  }

  get #snapshotIncomplete(): boolean {
    return this.#replayIsSnapshot && this.#replayLeft > 0;
  }

  receiveStarted(epoch: string): void {
    this.#epoch = epoch;
    this.#next = 0;
    this.#position = 0;
    this.#replayLeft = 0;
  }

  /** Take `attached`, or `resync` where `resync` is true. */
  receiveAttached(message: Attached, { resync }: { resync: boolean }): OutputStep[] {
    const { epoch, offset, rows, cols, replay } = message;
    const fresh = this.resumeFrom === null || epoch !== this.#epoch || resync;
    const steps: OutputStep[] = [];
    this.#epoch = epoch;
    this.#replayLeft = replay.bytes;
    this.#replayIsSnapshot = replay.kind === "snapshot";
    this.#liveFrom = offset;
    this.#position = this.#replayIsSnapshot ? offset : offset - replay.bytes;
    if (fresh || this.#replayIsSnapshot) {
      steps.push({ step: "reset" });
      this.#next = this.#position;
    }
    steps.push({ step: "resize", rows, cols });
    if (this.#position > this.#next) {
      steps.push({ step: "gap", from: this.#next, to: this.#position });
      this.#next = this.#position;
    }
    return steps;
  }

  receiveGap(from: number, to: number): OutputStep[] {
    // What is missing from a replay of the log counts as replayed.
    if (!this.#replayIsSnapshot) this.#replayLeft = Math.max(0, this.#replayLeft - (to - this.#position));
    this.#position = to;
    if (to <= this.#next) return [];
    const lost = { step: "gap", from: Math.max(from, this.#next), to } as const;
    this.#next = to;
    return [lost];
  }

  receiveBinary(bytes: Uint8Array): OutputStep[] {
    if (this.#replayLeft === 0) return this.#take(bytes, false);
    const replayed = bytes.subarray(0, this.#replayLeft);
    this.#replayLeft -= replayed.length;
    const steps = this.#replayIsSnapshot
      ? [{ step: "write", bytes: replayed, replay: true, offset: this.#next } as const]
      : this.#take(replayed, true);
    if (this.#replayLeft === 0) this.#position = this.#liveFrom;
    const live = bytes.subarray(replayed.length);
    return live.length > 0 ? [...steps, ...this.#take(live, false)] : steps;
  }

  #take(bytes: Uint8Array, replay: boolean): OutputStep[] {
    const start = this.#position;
    const end = start + bytes.length;
    this.#position = end;
    // HQ may send again what was already shown, such as after its restart: each byte is shown once.
    const known = Math.min(bytes.length, Math.max(0, this.#next - start));
    if (known === bytes.length) return [];
    this.#next = end;
    return [{ step: "write", bytes: bytes.subarray(known), replay, offset: end }];
  }
}
