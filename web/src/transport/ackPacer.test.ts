import { describe, expect, it } from "vitest";
import { AckPacer } from "./ackPacer";

describe("AckPacer", () => {
  it("waits 50 ms for more", () => {
    const pacer = new AckPacer();
    pacer.receiveShown(10, 100);
    expect(pacer.dueAtMs).toBe(150);
    pacer.receiveShown(20, 140);
    expect(pacer.take(149)).toBeNull();
    expect(pacer.take(150)).toBe(20);
    expect(pacer.take(1_000)).toBeNull();
  });

  it("does not wait once 128 KiB are shown", () => {
    const pacer = new AckPacer();
    pacer.receiveShown(131_071, 0);
    expect(pacer.take(0)).toBeNull();
    pacer.receiveShown(131_072, 1);
    expect(pacer.take(1)).toBe(131_072);
    pacer.receiveShown(131_073, 2);
    expect(pacer.take(2)).toBeNull();
  });

  it("never goes back", () => {
    const pacer = new AckPacer();
    pacer.restart(1_000);
    pacer.receiveShown(900, 0);
    expect(pacer.dueAtMs).toBeNull();
    expect(pacer.shownOffset).toBe(1_000);
  });
});
