import { expect, it } from "vitest";
import { FakeClock } from "../../test/fakes";
import type { HqEvent } from "../wire/objects";
import { EventFeed, type EventSourceLike } from "./eventFeed";

class FakeSource implements EventSourceLike {
  onerror: (() => void) | null = null;
  closed = false;
  readonly #listeners = new Map<string, (event: { data: string }) => void>();

  addEventListener(type: string, listener: (event: { data: string }) => void) {
    this.#listeners.set(type, listener);
  }
  close() {
    this.closed = true;
  }
  receive(type: string, data: object) {
    this.#listeners.get(type)?.({ data: JSON.stringify(data) });
  }
}

it("comes back after a loss, and says whether it is live", () => {
  const clock = new FakeClock();
  const sources: FakeSource[] = [];
  const events: HqEvent[] = [];
  const lives: boolean[] = [];
  const feed = new EventFeed(
    { onEvent: (event) => events.push(event), onLive: (live) => lives.push(live) },
    {
      openSource: () => {
        const source = new FakeSource();
        sources.push(source);
        return source;
      },
      clock,
      random: () => 0.5,
    },
  );
  feed.start();
  sources[0]?.receive("snapshot", { runners: [], sessions: [] });
  sources[0]?.receive("runner_removed", { runner_id: "mac" });
  expect(events.map(({ kind }) => kind)).toEqual(["snapshot", "runner_removed"]);
  expect(lives).toEqual([true]);

  sources[0]?.onerror?.();
  expect(lives).toEqual([true, false]);
  expect(sources[0]?.closed).toBe(true);
  clock.advance(50);
  expect(sources.length).toBe(2);
  sources[1]?.receive("snapshot", { runners: [], sessions: [] });
  expect(lives).toEqual([true, false, true]);

  feed.stop();
  clock.advance(60_000);
  expect(sources.length).toBe(2);
});
