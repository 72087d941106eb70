import { expect, it } from "vitest";
import { Liveness } from "./liveness";

it("asks after 5 s of silence and despairs after 5 s more", () => {
  const liveness = new Liveness();
  liveness.receiveOpened(0);
  liveness.receivePong();
  expect(liveness.check(4_999)).toEqual({ verdict: "alive", againAtMs: 5_000 });
  expect(liveness.check(5_000)).toEqual({ verdict: "ask", againAtMs: 10_000 });
  expect(liveness.check(9_999)).toEqual({ verdict: "alive", againAtMs: 10_000 });
  expect(liveness.check(10_000).verdict).toBe("dead");
});

it("is content with anything that arrives", () => {
  const liveness = new Liveness();
  liveness.receiveOpened(0);
  liveness.receivePong();
  liveness.check(5_000);
  liveness.receive(9_000);
  expect(liveness.check(10_000)).toEqual({ verdict: "alive", againAtMs: 14_000 });
});

it("asks first after a sleep in which no timer ran", () => {
  const liveness = new Liveness();
  liveness.receiveOpened(0);
  liveness.receivePong();
  expect(liveness.check(3_600_000).verdict).toBe("ask");
});

it("never despairs of an HQ that has never answered", () => {
  const liveness = new Liveness();
  liveness.receiveOpened(0);
  for (let nowMs = 5_000; nowMs < 100_000; nowMs += 5_000) expect(liveness.check(nowMs).verdict).toBe("ask");
});
