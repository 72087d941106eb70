import { beforeEach, describe, expect, it } from "vitest";
import { FakeClock, type FakeSocket, fakeNetwork } from "../../test/fakes";
import { Connection, type ConnectionOwner, type ConnectionState, type Refusal } from "./connection";

class Owner implements ConnectionOwner {
  readonly log: string[] = [];
  readonly states: ConnectionState[] = [];
  refusal: Refusal = { retry: true, reason: "HQ cannot be reached" };
  goOn = true;

  onOpen() {
    this.log.push("open");
  }
  onText(text: string) {
    this.log.push(`text ${text}`);
  }
  onBinary(bytes: Uint8Array) {
    this.log.push(`binary ${bytes.join(",")}`);
  }
  onLost(code: number) {
    this.log.push(`lost ${code}`);
    return this.goOn;
  }
  onRefused() {
    return Promise.resolve(this.refusal);
  }
  onState(state: ConnectionState) {
    this.states.push(state);
  }
}

let clock: FakeClock;
let owner: Owner;
let sockets: FakeSocket[];
let connection: Connection;

beforeEach(() => {
  clock = new FakeClock();
  owner = new Owner();
  const network = fakeNetwork();
  sockets = network.sockets;
  connection = new Connection(owner, {
    url: () => `ws://hq/${sockets.length}`,
    openSocket: network.openSocket,
    clock,
    random: () => 0.5,
  });
});

const latest = () => sockets.at(-1) as FakeSocket;

describe("Connection", () => {
  it("dials once and passes on what arrives", () => {
    connection.dial();
    connection.dial();
    expect(sockets.length).toBe(1);
    expect(connection.send("early")).toBe(false);
    latest().onopen?.();
    latest().onmessage?.({ data: "hello" });
    latest().receiveBytes(new Uint8Array([1, 2]));
    expect(owner.log).toEqual(["open", "text hello", "binary 1,2"]);
    expect(connection.send("now")).toBe(true);
    expect(latest().sent).toEqual(["now"]);
  });

  it("comes back within a second of a cut, saying why and when", () => {
    connection.dial();
    latest().onopen?.();
    clock.advance(20_000);
    latest().lose(1012);
    expect(connection.state).toEqual({
      phase: "waiting",
      reason: "HQ is restarting",
      retryAtMs: clock.now() + 50,
    });
    clock.advance(49);
    expect(sockets.length).toBe(1);
    clock.advance(1);
    expect(latest().url).toBe("ws://hq/1");
    expect(connection.state.phase).toBe("connecting");
  });

  it("gives an attempt up that is never answered", () => {
    connection.dial();
    clock.advance(8_000);
    expect(connection.state).toMatchObject({ phase: "waiting", reason: "HQ does not answer" });
    expect(sockets[0]?.closed).toBe(true);
  });

  it("asks why it was refused, and ends there if trying again is no use", async () => {
    connection.dial();
    owner.refusal = { retry: false };
    latest().lose();
    await Promise.resolve();
    expect(connection.state.phase).toBe("stopped");
    clock.advance(60_000);
    expect(sockets.length).toBe(1);
  });

  it("keeps its pause while it says why it was refused", async () => {
    connection.dial();
    latest().lose();
    const before = connection.state;
    await Promise.resolve();
    expect(connection.state).toEqual({ ...before, reason: "HQ cannot be reached" });
    clock.advance(50);
    expect(sockets.length).toBe(2);
  });

  it("does not let a late answer about an old refusal stop a newer attempt", async () => {
    connection.dial();
    owner.refusal = { retry: false };
    latest().lose();
    clock.advance(50);
    await Promise.resolve();
    expect(connection.state.phase).toBe("connecting");
  });

  it("ends where its owner says so", () => {
    connection.dial();
    latest().onopen?.();
    owner.goOn = false;
    latest().lose(1000);
    expect(connection.state.phase).toBe("stopped");
    clock.advance(60_000);
    expect(sockets.length).toBe(1);
  });

  it("dials at once when told that there is reason to hope", () => {
    connection.dial();
    for (let failures = 0; failures < 6; failures += 1) {
      latest().lose();
      clock.advance(15_000);
    }
    latest().lose();
    const before = sockets.length;
    connection.retryNow();
    expect(sockets.length).toBe(before + 1);
    clock.advance(7_000);
    expect(sockets.length).toBe(before + 1);
  });

  it("ignores what a socket says that it has given up", () => {
    connection.dial();
    const old = latest();
    const { onmessage, onclose } = old;
    old.onopen?.();
    connection.lose("nothing was received for 10 s");
    expect(owner.log).toEqual(["open", "lost 1006"]);
    expect(old.onmessage).toBeNull();
    onclose?.({ code: 1006, reason: "" });
    expect(onmessage).not.toBeNull();
    expect(owner.log).toEqual(["open", "lost 1006"]);
    expect(connection.state).toMatchObject({ reason: "nothing was received for 10 s" });
  });

  it("stops for good", () => {
    connection.dial();
    latest().onopen?.();
    connection.stop();
    expect(latest().closed).toBe(true);
    clock.advance(60_000);
    expect(sockets.length).toBe(1);
    expect(owner.log).toEqual(["open"]);
  });
});
