import { Terminal } from "@xterm/headless";
import { beforeEach, describe, expect, it } from "vitest";
import { FakeClock, type FakeSocket, fakeNetwork } from "../../../test/fakes";
import type { RunnerId, SessionId } from "../../wire/values";
import { type Target, TerminalSession, type Verdict } from "./TerminalSession";
import type { TerminalPort } from "./terminalPort";

const VIEWER = "3f0c6b0e-9a54-4a55-8f0e-2f2f5a1f9d11";
const attachTarget: Target = { kind: "attach", sessionId: "s1" as SessionId };
const startTarget: Target = {
  kind: "start",
  runnerId: "mac" as RunnerId,
  request: { command: ["bash"], name: "build" },
};

let clock: FakeClock;
let sockets: FakeSocket[];
let terminal: Terminal;
let session: TerminalSession;
let verdict: Verdict;

function open(target: Target): FakeSocket {
  clock = new FakeClock();
  terminal = new Terminal({ rows: 24, cols: 80, allowProposedApi: true, scrollback: 1_000 });
  const network = fakeNetwork();
  sockets = network.sockets;
  session = new TerminalSession({
    target,
    terminal: terminal as unknown as TerminalPort,
    viewer: VIEWER,
    wsBase: "ws://hq",
    probe: () => Promise.resolve(verdict),
    clock,
    openSocket: network.openSocket,
    random: () => 0.5,
  });
  session.connect();
  return opened();
}

/** Let the latest socket open. */
function opened(): FakeSocket {
  const socket = sockets.at(-1) as FakeSocket;
  socket.onopen?.();
  return socket;
}

function attached(change: object = {}) {
  return {
    session_id: "s1",
    epoch: "e1",
    offset: 0,
    rows: 24,
    cols: 80,
    control: true,
    viewer: VIEWER,
    input: 0,
    recording: true,
    replay: { kind: "log", bytes: 0 },
    ...change,
  };
}

const started = {
  session_id: "s1",
  runner_id: "mac",
  epoch: "e1",
  pid: 7,
  rows: 24,
  cols: 80,
  viewer: "given",
};

/** Until the terminal has parsed everything written to it. */
const parsed = () => new Promise<void>((done) => terminal.write("", done));

async function reconnect(): Promise<FakeSocket> {
  clock.advance(15_000);
  await Promise.resolve();
  return opened();
}

beforeEach(() => {
  verdict = "reachable";
});

describe("starting", () => {
  it("asks with the size it has room for, then shows the session", async () => {
    const socket = open(startTarget);
    socket.onopen = null;
    expect(socket.url).toBe("ws://hq/ws/terminal/mac");
    expect(socket.said("start_session")).toEqual([{ command: ["bash"], name: "build", viewer: VIEWER }]);
    expect(session.state.phase.name).toBe("starting");
    socket.receive("session_started", started);
    socket.receiveBytes("$ ");
    await parsed();
    expect(session.state).toMatchObject({ sessionId: "s1", control: "you", phase: { name: "live" } });
    expect(session.readText()).toBe("$");
  });

  it("starts with the fitted size", () => {
    open(startTarget);
    session.dispose();
    terminal = new Terminal({ allowProposedApi: true });
    session = new TerminalSession({
      target: startTarget,
      terminal: terminal as unknown as TerminalPort,
      viewer: VIEWER,
      wsBase: "ws://hq",
      probe: () => Promise.resolve("reachable"),
      clock,
      openSocket: fakeNetworkInto(sockets),
    });
    session.setFit({ rows: 50, cols: 132 });
    session.connect();
    expect(opened().said("start_session")[0]).toMatchObject({ rows: 50, cols: 132 });
  });

  it("says what was wrong, and does not start twice", () => {
    const socket = open(startTarget);
    socket.receive("error", { code: "command_not_found", message: "the command was not found: nosuch" });
    expect(session.state.phase).toEqual({
      name: "failed",
      code: "command_not_found",
      message: "the command was not found: nosuch",
    });
    clock.advance(60_000);
    expect(sockets.length).toBe(1);
  });

  it("does not start again by itself when the connection is lost before the answer", () => {
    open(startTarget).lose();
    expect(session.state.phase).toMatchObject({ name: "failed", code: "connection_lost" });
    clock.advance(60_000);
    expect(sockets.length).toBe(1);
  });

  it("attaches to the started session after a cut, from its offset", async () => {
    const socket = open(startTarget);
    socket.receive("session_started", started);
    socket.receiveBytes("hello");
    socket.lose();
    const next = await reconnect();
    expect(next.url).toBe("ws://hq/ws/session/s1");
    expect(next.said("attach")).toEqual([{ from: 5, epoch: "e1", viewer: VIEWER }]);
  });
});

function fakeNetworkInto(list: FakeSocket[]) {
  const network = fakeNetwork();
  return (url: string) => {
    const socket = network.openSocket(url);
    list.push(socket);
    return socket;
  };
}

describe("output", () => {
  it("keeps a character whole that is split across frames, also across a cut", async () => {
    const euro = new TextEncoder().encode("€ok");
    for (let cut = 1; cut < euro.length; cut += 1) {
      const socket = open(attachTarget);
      socket.receive("attached", attached());
      socket.receiveBytes(euro.subarray(0, cut));
      socket.lose();
      const next = await reconnect();
      expect(next.said("attach")).toEqual([{ from: cut, epoch: "e1", viewer: VIEWER }]);
      next.receive(
        "attached",
        attached({ offset: euro.length, replay: { kind: "log", bytes: euro.length - cut } }),
      );
      next.receiveBytes(euro.subarray(cut));
      await parsed();
      expect(session.readText()).toBe("€ok");
    }
  });

  it("replays, then goes live", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ offset: 10, replay: { kind: "log", bytes: 4 } }));
    expect(session.state.phase.name).toBe("replaying");
    socket.receiveBytes("old ");
    await parsed();
    expect(session.state.phase.name).toBe("live");
    socket.receiveBytes("new");
    await parsed();
    expect(session.readText()).toBe("old new");
    expect(session.offset).toBe(13);
  });

  it("keeps content and scroll position over a cut", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    const lines = Array.from({ length: 100 }, (_, line) => `line ${line}\r\n`).join("");
    socket.receiveBytes(lines);
    await parsed();
    terminal.scrollToLine(20);
    socket.lose();
    const next = await reconnect();
    next.receive("attached", attached({ offset: lines.length + 4, replay: { kind: "log", bytes: 4 } }));
    next.receiveBytes("more");
    await parsed();
    expect(terminal.buffer.active.viewportY).toBe(20);
    expect(session.readText()).toBe(`${lines.replaceAll("\r", "")}more`);
  });

  it("resets for resync and for a snapshot, and counts from its offset", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.receiveBytes("old \x1b[31mtext \x1b]0;half a title");
    socket.receive("resync", attached({ offset: 5_000, replay: { kind: "snapshot", bytes: 6 } }));
    socket.receiveBytes("screen");
    socket.receiveBytes(" live");
    await parsed();
    expect(session.readText()).toBe("screen live");
    expect(session.offset).toBe(5_005);
    expect(terminal.buffer.active.getLine(0)?.getCell(0)?.isFgDefault()).toBe(true);
  });

  it("resizes in the order of the stream", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ control: false, cols: 40 }));
    socket.receiveBytes(`${"x".repeat(40)}\x1b[6n\r\n`);
    socket.receive("resized", { rows: 10, cols: 20 });
    expect(terminal.cols).toBe(80);
    await parsed();
    expect([terminal.rows, terminal.cols]).toEqual([10, 20]);
    expect(session.state.pty).toEqual({ rows: 10, cols: 20 });
  });

  it("shows a gap as a line of its own", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.receiveBytes("before\x1b[3");
    socket.receive("gap", { from: 9, to: 12_009 });
    socket.receiveBytes("after");
    await parsed();
    expect(session.readText()).toMatch(/^before\n 12,000 bytes of output are lost here \nafter$/);
    expect(session.offset).toBe(12_014);
  });

  it("shows how the session ended and does not dial again", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ offset: 3, replay: { kind: "log", bytes: 3 } }));
    socket.receiveBytes("bye");
    socket.receive("session_ended", { session_id: "s1", exit_code: 1, signal: null });
    socket.lose(1000);
    await parsed();
    expect(session.readText()).toBe("bye");
    expect(session.state.phase).toEqual({ name: "ended", exit: { exit_code: 1, signal: null } });
    clock.advance(60_000);
    expect(sockets.length).toBe(1);
  });
});

describe("queries", () => {
  const CURSOR_QUERY = "\x1b[6n";

  it("answers a program that asks now", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.receiveBytes(CURSOR_QUERY);
    await parsed();
    expect(socket.typed()).toBe("\x1b[1;1R");
  });

  it("does not answer what was asked in the past, and does what comes after", async () => {
    const socket = open(attachTarget);
    const past = `${CURSOR_QUERY}\x1b[c\x1b]10;?\x07\x1b[?1004h`;
    socket.receive(
      "attached",
      attached({ offset: past.length, replay: { kind: "log", bytes: past.length } }),
    );
    socket.receiveBytes(`${past}x${CURSOR_QUERY}`);
    await parsed();
    expect(socket.typed()).toBe("\x1b[1;2R");
  });

  it("does not answer from a snapshot", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ offset: 9, replay: { kind: "snapshot", bytes: 4 } }));
    socket.receiveBytes(CURSOR_QUERY);
    await parsed();
    expect(socket.typed()).toBe("");
  });

  it("leaves the answer to the viewer in control, or to HQ where there is none", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ control: false }));
    socket.receiveBytes(CURSOR_QUERY);
    await parsed();
    socket.receive("control", { viewer: null, you: false });
    socket.receiveBytes(CURSOR_QUERY);
    await parsed();
    expect(socket.typed()).toBe("");
  });

  it("keeps what a person types during a replay", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ offset: 4, replay: { kind: "log", bytes: 4 } }));
    socket.receiveBytes(CURSOR_QUERY);
    terminal.input("ls\r");
    await parsed();
    expect(socket.typed()).toBe("ls\r");
  });
});

describe("acks", () => {
  it("acknowledges what the terminal has parsed, at most every 50 ms", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    const before = socket.said("ack").length;
    socket.receiveBytes("abc");
    expect(socket.said("ack").length).toBe(before);
    await parsed();
    socket.receiveBytes("def");
    await parsed();
    expect(socket.said("ack").length).toBe(before);
    clock.advance(50);
    expect(socket.said("ack").slice(before)).toEqual([{ offset: 6 }]);
  });

  it("acknowledges a flood every 128 KiB", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    for (let frame = 0; frame < 8; frame += 1) socket.receiveBytes(new Uint8Array(65_536).fill(0x61));
    await parsed();
    expect(socket.said("ack").map(({ offset }) => offset)).toEqual([0, 131_072, 262_144, 393_216, 524_288]);
  });

  it("does not acknowledge offsets of another stream", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.receiveBytes("0123456789");
    socket.receive("resync", attached({ epoch: "e2", offset: 2, replay: { kind: "log", bytes: 2 } }));
    socket.receiveBytes("ab");
    await parsed();
    clock.advance(50);
    expect(socket.said("ack").at(-1)).toEqual({ offset: 2 });
    expect(session.readText()).toBe("ab");
  });
});

describe("input", () => {
  it("is sent as UTF-8, and binary as bytes", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    terminal.input("é");
    session.type("\x1b");
    expect(socket.typed()).toBe("é\x1b");
  });

  it("resumes where HQ stopped", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ input: 100 }));
    terminal.input("abc");
    terminal.input("def");
    socket.receive("input_ack", { offset: 102 });
    socket.lose();
    terminal.input("ghi");
    clock.advance(100);
    const next = opened();
    next.receive("attached", attached({ input: 104 }));
    expect(next.typed()).toBe("efghi");
    expect(session.state.notice).toBeNull();
  });

  it("is dropped after ten seconds without a connection, and says so", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.lose();
    terminal.input("rm -rf x\r");
    clock.advance(9_999);
    expect(session.state.notice).toBeNull();
    clock.advance(1);
    expect(session.state.notice?.text).toMatch(/9 bytes of input dropped/);
    const next = opened();
    next.receive("attached", attached());
    expect(next.typed()).toBe("");
  });

  it("is refused while another viewer is in control, and says so", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ control: false }));
    terminal.input("x");
    expect(socket.typed()).toBe("");
    expect(session.state.notice?.text).toMatch(/Another viewer is in control/);
    session.takeControl();
    expect(socket.said("take_control").length).toBe(1);
    socket.receive("control", { viewer: VIEWER, you: true });
    terminal.input("y");
    expect(socket.typed()).toBe("y");
  });

  it("is not sent to a session that another viewer took over meanwhile", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.lose();
    terminal.input("x");
    clock.advance(100);
    const next = opened();
    next.receive("attached", attached({ control: false }));
    expect(next.typed()).toBe("");
    expect(session.state.notice?.text).toMatch(/not sent/);
  });
});

describe("size", () => {
  it("is the viewer's in control, told to HQ once it has settled", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    session.setFit({ rows: 30, cols: 90 });
    session.setFit({ rows: 31, cols: 91 });
    expect([terminal.rows, terminal.cols]).toEqual([31, 91]);
    clock.advance(1_000);
    expect(socket.said("resize")).toEqual([{ rows: 31, cols: 91 }]);
  });

  it("is the PTY's for a watcher, until it takes control", async () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached({ control: false, rows: 50, cols: 132 }));
    session.setFit({ rows: 20, cols: 40 });
    await parsed();
    clock.advance(1_000);
    expect([terminal.rows, terminal.cols]).toEqual([50, 132]);
    expect(socket.said("resize")).toEqual([]);
    socket.receive("control", { viewer: VIEWER, you: true });
    expect([terminal.rows, terminal.cols]).toEqual([20, 40]);
    expect(socket.said("resize")).toEqual([{ rows: 20, cols: 40 }]);
  });

  it("replays at the size of the PTY, then fits", async () => {
    const socket = open(attachTarget);
    session.setFit({ rows: 20, cols: 40 });
    socket.receive("attached", attached({ cols: 60, offset: 52, replay: { kind: "log", bytes: 52 } }));
    socket.receiveBytes(`${"y".repeat(50)}\r\n`);
    expect(socket.said("resize")).toEqual([]);
    await parsed();
    expect(socket.said("resize")).toEqual([{ rows: 20, cols: 40 }]);
    expect(session.readText()).toBe("y".repeat(50));
  });
});

describe("refusal", () => {
  it.each([
    ["not_found", { name: "gone" }],
    ["login_required", { name: "failed", code: "login_required" }],
  ] as const)("ends where HQ says %s", async (answer, phase) => {
    const socket = open(attachTarget);
    socket.lose();
    verdict = answer;
    clock.advance(100);
    sockets.at(-1)?.lose();
    await new Promise((done) => setImmediate(done));
    expect(session.state.phase).toMatchObject(phase);
    const count = sockets.length;
    clock.advance(60_000);
    expect(sockets.length).toBe(count);
  });

  it("goes on trying while HQ is away, saying so", async () => {
    verdict = "unreachable";
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    socket.lose(1012);
    expect(session.state.phase).toMatchObject({ name: "reconnecting", reason: "HQ is restarting" });
    clock.advance(100);
    expect(session.state.phase).toMatchObject({ name: "reconnecting", retryAtMs: null });
    sockets.at(-1)?.lose();
    await new Promise((done) => setImmediate(done));
    expect(session.state.phase).toMatchObject({ name: "reconnecting", reason: "HQ cannot be reached" });
  });
});

describe("liveness", () => {
  it("gives a connection up that has fallen silent, once HQ is known to answer", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    clock.advance(5_000);
    expect(socket.said("ping").length).toBe(1);
    socket.receive("pong", {});
    clock.advance(5_000);
    expect(socket.said("ping").length).toBe(2);
    clock.advance(5_000);
    expect(session.state.phase).toMatchObject({
      name: "reconnecting",
      reason: "nothing has arrived for 10 s",
    });
  });

  it("stays with an HQ that does not know the question", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    clock.advance(60_000);
    expect(session.state.phase.name).toBe("live");
  });

  it("does not ask while output arrives", () => {
    const socket = open(attachTarget);
    socket.receive("attached", attached());
    for (let second = 0; second < 30; second += 1) {
      socket.receiveBytes("x");
      clock.advance(1_000);
    }
    expect(socket.said("ping").length).toBe(0);
  });
});

it("drops a connection on which HQ says what it must not, and tries again", () => {
  const socket = open(attachTarget);
  socket.receive("attached", { session_id: "s1" });
  expect(socket.closed).toBe(true);
  expect(session.state.phase).toMatchObject({
    name: "reconnecting",
    reason: expect.stringMatching(/attached/),
  });
});
