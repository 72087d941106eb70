/** What the product is for: a terminal on a runner, in a browser, that is still there after everything. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ARTIFACTS, seeInTerminal, startSession, System, type } from "./system.mjs";

let system;
let page;

before(async () => {
  system = await System.start({ runners: 1 });
  page = await system.page();
});
after(() => system?.stop());

test("a login link lets a browser in once and leaves the address bar", async () => {
  assert.equal(new URL(page.url()).hash, "");
  const link = await system.loginLink();
  const first = await system.page({ login: false });
  await first.goto(link);
  await first.getByTestId("runner-item").first().waitFor();
  const second = await system.page({ login: false });
  await second.goto(link);
  await second.getByTestId("login-token").waitFor();
  await first.context().close();
  await second.context().close();
});

test("pick the runner, start a shell, type a command, see its output", async () => {
  await startSession(page, { runner: "r1", preset: "shell" });
  await seeInTerminal(page, /[$#]\s*$/);
  await type(page, "echo hi $((40+2))\n");
  await seeInTerminal(page, /^hi 42$/m);
});

test("the terminal's size follows the window", async () => {
  await type(page, "stty size\n");
  const before = (await seeInTerminal(page, /^(\d+) (\d+)$/m)).match(/^(\d+) (\d+)$/m);
  await page.setViewportSize({ width: 1000, height: 600 });
  // The shell learns of it by SIGWINCH; ask until it has.
  await type(page, "while [ \"$(stty size)\" = '" + before[0] + "' ]; do sleep 0.05; done; echo now $(stty size)\n");
  const after = (await seeInTerminal(page, /^now (\d+) (\d+)$/m)).match(/^now (\d+) (\d+)$/m);
  assert.ok(Number(after[1]) < Number(before[1]), `rows ${before[1]} to ${after[1]}`);
  assert.ok(Number(after[2]) < Number(before[2]), `cols ${before[2]} to ${after[2]}`);
  await page.setViewportSize({ width: 1440, height: 900 });
});

test("a second session opens beside the first, and both are there to switch between", async () => {
  await startSession(page, { command: "bash --norc" });
  await seeInTerminal(page, "bash");
  await type(page, "echo second-$((1+1))\n");
  await seeInTerminal(page, "second-2");
  const tabs = page.getByTestId("tab");
  assert.equal(await tabs.count(), 2);
  await tabs.nth(0).click();
  await seeInTerminal(page, /^hi 42$/m);
  await tabs.nth(1).click();
  await seeInTerminal(page, "second-2");
});

test("after a reload both are back, with their scrollback", async () => {
  await type(page, "seq 1 500\n");
  await seeInTerminal(page, /^500$/m);
  await page.reload();
  await page.getByTestId("tab").nth(1).waitFor();
  assert.equal(await page.getByTestId("tab").count(), 2);
  await page.getByTestId("tab").nth(0).click();
  await seeInTerminal(page, /^hi 42$/m);
  await page.getByTestId("tab").nth(1).click();
  const text = await seeInTerminal(page, /^500$/m);
  assert.match(text, /^1$/m);
  assert.match(text, /second-2/);
  await type(page, "echo still-$((2+1))\n");
  await seeInTerminal(page, "still-3");
});

test("characters of several bytes arrive whole", async () => {
  await type(page, "printf '\\xe2'; sleep 0.1; printf '\\x82'; sleep 0.1; printf '\\xac \\xf0\\x9f\\xa6\\x8a ok\\n'\n");
  await seeInTerminal(page, /^€ 🦊 ok$/m);
});

test("when the program ends, its exit code is said in words", async () => {
  await page.screenshot({ path: join(ARTIFACTS, "session.png") });
  await type(page, "exit 7\n");
  await page.getByTestId("session-status").filter({ hasText: /exit code 7/ }).first().waitFor();
});

test("a program that is killed says by what", async () => {
  await startSession(page, { command: "sh -c 'kill -9 $$'" });
  await page.getByTestId("session-status").filter({ hasText: /SIGKILL/ }).first().waitFor();
});

test("a command that does not exist says so", async () => {
  await startSession(page, { command: "no-such-program-anywhere" });
  await page.getByText(/no-such-program-anywhere/).first().waitFor();
  await page.getByText(/no program|not found/i).first().waitFor();
});

test("the page has thrown nothing", () => {
  assert.deepEqual(page.errors, []);
});
