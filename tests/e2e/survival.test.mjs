/** A session survives the network, HQ and the runner, and the page shows what is going on. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { leftovers, seeInTerminal, startSession, System, type, until } from "./system.mjs";

let system;
let page;

before(async () => {
  system = await System.start({ runners: 2 });
  page = await system.page();
  await startSession(page, { runner: "r1", command: "bash --norc" });
  await seeInTerminal(page, "bash");
});
after(() => system?.stop());

const live = () => page.getByTestId("session-status").filter({ hasText: /live|running|connected/i }).first().waitFor();

test("HQ is killed and started again: the page finds back and the shell is the same", async () => {
  await type(page, "echo pid $$\n");
  const pid = (await seeInTerminal(page, /^pid (\d+)$/m)).match(/^pid (\d+)$/m)[1];
  await system.hq.end("SIGKILL");
  await page.getByTestId("session-status").filter({ hasText: /reconnect/i }).first().waitFor();
  await system.startHq();
  await live();
  await type(page, "echo again $$\n");
  const again = (await seeInTerminal(page, /^again (\d+)$/m)).match(/^again (\d+)$/m)[1];
  assert.equal(again, pid);
});

test("the runner is killed and started again: nothing that was printed meanwhile is missing", async () => {
  await type(page, "for i in $(seq 1 40); do echo tick-$i; sleep 0.1; done; echo ticked\n");
  await seeInTerminal(page, "tick-3");
  await system.runners.get("r1").end("SIGKILL");
  await system.startRunner("r1");
  const text = await seeInTerminal(page, /^ticked$/m);
  for (let number = 1; number <= 40; number++) assert.match(text, new RegExp(`^tick-${number}$`, "m"));
});

test("two runners, and sessions on both", async () => {
  assert.equal(await page.getByTestId("runner-item").count(), 2);
  await startSession(page, { runner: "r2", command: "bash --norc -c 'echo on $RUNNER_TOKEN-second; read x'" });
  await seeInTerminal(page, /^on -second$/m); // the runner's token is not in a program's environment
});

test("two viewers see one session; one controls, the other can take over", async () => {
  await page.getByTestId("tab").nth(0).click();
  const session = new URL(page.url()).pathname;
  const other = await system.page();
  await other.goto(system.url + session);
  await seeInTerminal(other, /^ticked$/m);
  await type(page, "echo shared-$((3*3))\n");
  await seeInTerminal(other, "shared-9");
  await other.getByTestId("take-control").click();
  await other.getByTestId("take-control").waitFor({ state: "hidden" });
  await page.getByTestId("take-control").waitFor();
  await type(other, "echo from-the-other\n");
  await seeInTerminal(page, /^from-the-other$/m);
  await other.context().close();
});

test("eight sessions at once on one runner", async () => {
  const started = await Promise.all(
    [...Array(8).keys()].map((number) =>
      system.api("/api/sessions", {
        method: "POST",
        body: { runner_id: "r2", command: ["sh", "-c", `seq 1 20000; echo done-${number}; exit ${number}`] },
      }),
    ),
  );
  for (const [number, { session_id }] of started.entries()) {
    const ended = await until("an end", async () => {
      const session = await system.api(`/api/sessions/${session_id}`);
      return session.state === "ended" && session;
    });
    assert.equal(ended.exit_code, number);
    assert.match(await system.api(`/api/sessions/${session_id}/output?from=0`), new RegExp(`done-${number}\r\n$`));
  }
});

test("told to stop, everything is gone", async () => {
  const { directory } = system;
  await system.stop();
  system = undefined;
  assert.deepEqual(await until("an end of all", async () => {
    const left = await leftovers(directory);
    return left.length === 0 && left.concat("none");
  }), ["none"]);
});
