import { describe, expect, it } from "vitest";
import type { Attached } from "../wire/messages";
import { type OutputStep, OutputStream } from "./outputStream";

const bytes = (text: string) => new TextEncoder().encode(text);

function attached(change: Partial<Attached> & Pick<Attached, "offset" | "replay">): Attached {
  return {
    session_id: "a" as Attached["session_id"],
    epoch: "e1" as Attached["epoch"],
    rows: 24,
    cols: 80,
    control: true,
    viewer: "v",
    input: 0,
    recording: true,
    ...change,
  };
}

/** What the steps show, with marks for everything that is not a byte of the stream. */
function shown(steps: readonly OutputStep[]): string {
  return steps
    .map((step) => {
      if (step.step === "write") return new TextDecoder().decode(step.bytes);
      if (step.step === "gap") return `[gap ${step.from}-${step.to}]`;
      return step.step === "reset" ? "[reset]" : "";
    })
    .join("");
}

const log = (offset: number, size: number) =>
  attached({ offset, replay: { kind: "log", bytes: size } as const });
const snapshot = (offset: number, size: number) =>
  attached({ offset, replay: { kind: "snapshot", bytes: size } as const });

describe("OutputStream", () => {
  it("counts from 0 for a session that it started", () => {
    const stream = new OutputStream();
    stream.receiveStarted("e1");
    expect(stream.receiveBinary(bytes("abc"))).toEqual([
      { step: "write", bytes: bytes("abc"), replay: false, offset: 3 },
    ]);
    expect(stream.resumeFrom).toBe(3);
  });

  it("tells replay from live output, also within one frame", () => {
    const stream = new OutputStream();
    expect(stream.resumeFrom).toBeNull();
    expect(shown(stream.receiveAttached(log(10, 4), { resync: false }))).toBe("[reset]");
    const steps = stream.receiveBinary(bytes("6789ab"));
    expect(steps.map((step) => step.step === "write" && [step.replay, step.offset])).toEqual([
      [true, 10],
      [false, 12],
    ]);
    expect(stream.replaying).toBe(false);
  });

  it("resumes where it stopped, without a reset", () => {
    const stream = new OutputStream();
    stream.receiveStarted("e1");
    stream.receiveBinary(bytes("0123456789"));
    const steps = stream.receiveAttached(log(13, 3), { resync: false });
    expect(shown([...steps, ...stream.receiveBinary(bytes("abcd"))])).toBe("abcd");
    expect(stream.offset).toBe(14);
  });

  it("shows each byte once where HQ sends again what is known", () => {
    for (let start = 0; start <= 10; start += 1) {
      const stream = new OutputStream();
      stream.receiveStarted("e1");
      stream.receiveBinary(bytes("0123456789"));
      // HQ restarted and knows less than this viewer: its live output begins before `from`.
      stream.receiveAttached(log(start, 0), { resync: false });
      const again = "0123456789ABC".slice(start);
      const shownAgain = [...again].flatMap((char) => stream.receiveBinary(bytes(char)));
      expect(shown(shownAgain)).toBe("ABC");
      expect(stream.offset).toBe(13);
    }
  });

  it("resets for another epoch, and for resync", () => {
    const stream = new OutputStream();
    stream.receiveStarted("e0");
    stream.receiveBinary(bytes("0123456789"));
    expect(shown(stream.receiveAttached(log(2, 2), { resync: false }))).toBe("[reset]");
    expect(shown(stream.receiveBinary(bytes("ab")))).toBe("ab");
    expect(shown(stream.receiveAttached(log(2, 0), { resync: true }))).toBe("[reset]");
  });

  it("does not count the bytes of a snapshot", () => {
    const stream = new OutputStream();
    stream.receiveAttached(snapshot(1_000, 5), { resync: false });
    expect(stream.receiveBinary(bytes("12"))).toMatchObject([{ replay: true, offset: 1_000 }]);
    // Half a snapshot is no basis for going on.
    expect(stream.resumeFrom).toBeNull();
    expect(stream.receiveBinary(bytes("345live"))).toMatchObject([
      { replay: true, offset: 1_000 },
      { replay: false, offset: 1_004 },
    ]);
    expect(stream.resumeFrom).toBe(1_004);
  });

  it("marks what is lost, wherever it is noticed", () => {
    const stream = new OutputStream();
    stream.receiveStarted("e1");
    stream.receiveBinary(bytes("01234"));
    expect(shown(stream.receiveGap(5, 8))).toBe("[gap 5-8]");
    expect(shown(stream.receiveBinary(bytes("89")))).toBe("89");
    expect(stream.offset).toBe(10);
    expect(shown(stream.receiveAttached(log(20, 4), { resync: false }))).toBe("[gap 10-16]");
    expect(shown(stream.receiveGap(3, 8))).toBe("");
  });

  it("is at the live offset after a replay that has a gap", () => {
    const stream = new OutputStream();
    stream.receiveAttached(log(10, 4), { resync: false });
    stream.receiveBinary(bytes("67"));
    stream.receiveGap(7, 8);
    stream.receiveBinary(bytes("89"));
    expect(stream.offset).toBe(10);
    stream.receiveBinary(bytes("a"));
    expect(stream.offset).toBe(11);
  });

  it("knows where a replay ends that lacks something in the middle", () => {
    const stream = new OutputStream();
    stream.receiveAttached(log(10, 8), { resync: false });
    stream.receiveBinary(bytes("23"));
    expect(shown(stream.receiveGap(4, 7))).toBe("[gap 4-7]");
    const [replayed, live] = stream.receiveBinary(bytes("789abc"));
    expect(replayed).toMatchObject({ replay: true, offset: 10 });
    expect(live).toMatchObject({ replay: false, offset: 13 });
    expect(stream.replaying).toBe(false);
  });

  it("gives the same stream for every split into frames", () => {
    const text = "0123456789abcdefghij";
    for (let cut = 1; cut < text.length; cut += 1) {
      const stream = new OutputStream();
      const steps = stream.receiveAttached(log(12, 12), { resync: false });
      steps.push(...stream.receiveBinary(bytes(text.slice(0, cut))));
      steps.push(...stream.receiveBinary(bytes(text.slice(cut))));
      expect(shown(steps)).toBe(`[reset]${text}`);
      const replayed = steps.filter((step) => step.step === "write" && step.replay);
      expect(shown(replayed)).toBe(text.slice(0, 12));
      expect(stream.offset).toBe(20);
    }
  });
});
