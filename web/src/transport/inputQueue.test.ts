import { describe, expect, it } from "vitest";
import { INPUT_WAIT_MS, InputQueue } from "./inputQueue";

const bytes = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
const text = (frames: Uint8Array[]) => frames.map((frame) => new TextDecoder().decode(frame)).join("");

function openQueue(taken: number | null = 0): InputQueue {
  const queue = new InputQueue();
  queue.receiveOpened(taken, 0);
  return queue;
}

describe("InputQueue", () => {
  it("sends at once while connected, and forgets what was acknowledged", () => {
    const queue = openQueue();
    expect(text(queue.add(bytes("abc"), 0))).toBe("abc");
    expect(queue.waitingBytes).toBe(3);
    queue.receiveAck(2);
    expect(queue.waitingBytes).toBe(1);
    queue.receiveAck(3);
    expect(queue.waitingBytes).toBe(0);
  });

  it("goes on with the byte HQ has not taken, wherever the connection was cut", () => {
    for (let taken = 0; taken <= 6; taken += 1) {
      const queue = openQueue();
      queue.add(bytes("abc"), 0);
      queue.add(bytes("def"), 0);
      queue.receiveAck(1);
      queue.receiveClosed(10);
      expect(text(queue.receiveOpened(Math.max(1, taken), 20).frames)).toBe(
        "abcdef".slice(Math.max(1, taken)),
      );
    }
  });

  it("keeps what is typed while disconnected, for ten seconds", () => {
    const queue = openQueue();
    queue.receiveClosed(0);
    expect(queue.add(bytes("old"), 1_000)).toEqual([]);
    queue.add(bytes("new"), 2_000);
    expect(queue.expiresAtMs).toBe(1_000 + INPUT_WAIT_MS);
    expect(queue.dropExpired(1_000 + INPUT_WAIT_MS - 1)).toBe(0);
    expect(queue.dropExpired(1_000 + INPUT_WAIT_MS)).toBe(3);
    expect(text(queue.receiveOpened(0, 11_500).frames)).toBe("new");
  });

  it("says how much it dropped when the connection is back too late", () => {
    const queue = openQueue();
    queue.add(bytes("sent"), 0);
    queue.receiveClosed(5_000);
    expect(queue.receiveOpened(2, 5_000 + INPUT_WAIT_MS)).toEqual({ frames: [], droppedBytes: 2 });
    expect(text(queue.add(bytes("x"), 20_000))).toBe("x");
    queue.receiveAck(3);
    expect(queue.waitingBytes).toBe(0);
  });

  it("does not drop what only waits for an acknowledgement", () => {
    const queue = openQueue();
    queue.add(bytes("slow"), 0);
    expect(queue.expiresAtMs).toBeNull();
    expect(queue.dropExpired(60_000)).toBe(0);
    queue.receiveClosed(60_000);
    expect(text(queue.receiveOpened(0, 60_001).frames)).toBe("slow");
  });

  it("continues HQ's count and not its own after a reload of the page", () => {
    const queue = openQueue(500);
    queue.add(bytes("ab"), 0);
    queue.receiveAck(501);
    expect(queue.waitingBytes).toBe(1);
  });

  it("never sends again what was sent to an HQ that has forgotten its count", () => {
    const queue = openQueue(7);
    queue.add(bytes("abc"), 0);
    queue.receiveClosed(0);
    queue.add(bytes("d"), 0);
    expect(text(queue.receiveOpened(null, 1).frames)).toBe("d");
    queue.receiveAck(1);
    expect(queue.waitingBytes).toBe(0);
  });

  it("sends a paste of 1 MiB as one message, and a larger one as several", () => {
    const lengths = (bytes: number) =>
      openQueue()
        .add(new Uint8Array(bytes), 0)
        .map((frame) => frame.length);
    expect(lengths(1 << 20)).toEqual([1 << 20]);
    expect(lengths((1 << 20) + 1)).toEqual([1 << 20, 1]);
  });
});
