/**
 * Real agents, driven as a person would: through Chromium, HQ and a runner, up to their first screen.
 *
 * Without a network they get as far as asking how to sign in, or whether to trust the folder; that is a whole
 * terminal interface already: alternate input modes, colours, cursor keys. AGENTS names the folder they are
 * installed in.
 */

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ARTIFACTS, ROOT, seeInTerminal, startSession, System, terminalText, type, until } from "../e2e/system.mjs";

const AGENTS = process.env.AGENTS;
const START_MS = 60_000;
let system;
let page;

before(async () => {
  assert.ok(AGENTS, "AGENTS has to name the folder the agents are installed in");
  system = await System.start({
    runners: 0,
    env: {
      PATH: `${join(AGENTS, "node_modules/.bin")}:${process.env.PATH}`,
      DISABLE_AUTOUPDATER: "1",
      GEMINI_CLI_NO_RELAUNCH: "true",
    },
  });
  // Claude Code's first question, the theme, is followed by a look at the network; its second is not.
  await writeFile(join(system.home, ".claude.json"), '{"hasCompletedOnboarding": true, "theme": "dark"}');
  for (const name of ["codex", "gemini", "claude"]) await mkdir(join(system.home, name));
  await system.startRunner("workstation");
  page = await system.page({ colorScheme: "dark", viewport: { width: 1200, height: 720 } });
});
after(() => system?.stop());

/** Press a key until the screen shows what it should; an agent may not listen yet when it first draws. */
async function press(key, expected) {
  await page.getByTestId("terminal").locator("visible=true").first().click();
  await until(`${expected} after ${key}`, async () => {
    await page.keyboard.press(key);
    await new Promise((resolve) => setTimeout(resolve, 300));
    return expected.test(await terminalText(page));
  });
}

const ended = () => page.getByTestId("session-status").filter({ hasText: /ended|exit/i }).first().waitFor();

test("the runner reports all three as installed", async () => {
  const { presets } = await system.api("/api/runners/workstation");
  const names = presets.map(({ name }) => name);
  for (const name of ["codex", "gemini", "claude"]) assert.ok(names.includes(name), `${name} in ${names}`);
});

test("Codex asks how to sign in; a key moves its selection; it ends", async () => {
  await startSession(page, { preset: "codex", cwd: join(system.home, "codex") });
  await seeInTerminal(page, /[>›❯] 1\. Sign in with ChatGPT/, START_MS);
  await press("ArrowDown", /[>›❯] 2\. Sign in with Device Code/);
  await page.screenshot({ path: join(ARTIFACTS, "codex.png") });
  await page.keyboard.press("Control+c");
  await ended();
});

test("Gemini CLI asks whether to trust the folder; a key moves its selection; it ends", async () => {
  await startSession(page, { preset: "gemini", cwd: join(system.home, "gemini") });
  await seeInTerminal(page, /● 1\. Trust folder/, START_MS);
  await press("ArrowDown", /● 2\. Trust parent folder/);
  await page.screenshot({ path: join(ARTIFACTS, "gemini.png") });
  await press("ArrowDown", /● 3\. Don't trust/);
  await until("its end", async () => {
    await page.keyboard.press("Control+c");
    await new Promise((resolve) => setTimeout(resolve, 300));
    return /ended|exit/i.test(await page.getByTestId("session-status").first().innerText());
  }, START_MS);
});

test("Claude Code asks whether to trust the folder; a key moves its selection; it ends", async () => {
  await startSession(page, { preset: "claude", cwd: join(system.home, "claude") });
  await seeInTerminal(page, /❯ 1\. Yes, I trust this folder/, START_MS);
  await mkdir(join(ROOT, "docs/images"), { recursive: true });
  await page.screenshot({ path: join(ROOT, "docs/images/terminal.png") });
  await press("ArrowDown", /❯ 2\. No, exit/);
  await page.keyboard.press("Enter");
  await ended();
});

test("a reload shows the agent's screen as it was", async () => {
  await startSession(page, { preset: "codex", cwd: join(system.home, "codex") });
  await seeInTerminal(page, /[>›❯] 1\. Sign in with ChatGPT/, START_MS);
  const before = await terminalText(page);
  await page.reload();
  await page.getByTestId("terminal").locator("visible=true").first().waitFor();
  await until("the same screen", async () => (await terminalText(page)).trimEnd() === before.trimEnd());
  await type(page, "\u0003");
  await ended();
});
