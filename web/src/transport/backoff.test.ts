import { describe, expect, it } from "vitest";
import { Backoff } from "./backoff";

function delays(backoff: Backoff, count: number): number[] {
  return Array.from({ length: count }, () => backoff.receiveClosed(0));
}

describe("Backoff", () => {
  it("tries three times quickly, then within 1.5 s for a minute, then within 15 s", () => {
    const latest = new Backoff(() => 0.999_999);
    expect(delays(latest, 6).map(Math.round)).toEqual([100, 300, 300, 1500, 1500, 1500]);
    expect(Math.round(latest.receiveClosed(59_999))).toBe(1500);
    expect(Math.round(latest.receiveClosed(60_000))).toBe(15_000);
  });

  it("never waits less than 100 ms between quick tries nor 500 ms later", () => {
    const earliest = new Backoff(() => 0);
    expect(delays(earliest, 6)).toEqual([0, 100, 100, 500, 500, 500]);
  });

  it("starts again after ten seconds of health, and only then", () => {
    const backoff = new Backoff(() => 0.5);
    delays(backoff, 6);
    backoff.receiveOpened(1_000);
    expect(backoff.receiveClosed(10_999)).toBeGreaterThan(300);
    backoff.receiveOpened(20_000);
    expect(backoff.receiveClosed(30_000)).toBe(50);
  });
});
