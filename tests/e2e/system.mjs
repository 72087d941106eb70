/**
 * A whole AgentRelay for one test file: HQ, runners and Chromium, all of its own, on free ports of 127.0.0.1.
 *
 * Nothing here waits for a time to pass: everything waits for what a person would see.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, mkdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(new URL("../../web/package.json", import.meta.url));
const { chromium } = require("playwright-core");

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const ARTIFACTS = join(ROOT, "tests/e2e/artifacts");
const BIN = process.env.AGENTRELAY_BIN || join(ROOT, ".venv/bin");
const ADMIN_TOKEN = "admin-token-of-the-browser-tests";
const RUNNER_TOKEN = "runner-token-of-the-browser-tests";
const START_MS = 20_000;

const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function freePort() {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Call `probe` until it gives something truthy; fail with what it last said. */
export async function until(what, probe, timeoutMs = START_MS) {
  const deadline = Date.now() + timeoutMs;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`no ${what} within ${timeoutMs} ms; last: ${last}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** One process with its output kept for the report of a failure. */
class Process {
  constructor(name, args, env) {
    this.name = name;
    this.log = "";
    this.child = spawn(join(BIN, name), args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.exited = once(this.child, "exit");
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on("data", (data) => {
        this.log += data;
      });
    }
  }

  async end(signal = "SIGTERM") {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    await this.exited;
  }
}

export class System {
  /** Start HQ, `runners` runners (r1, r2, ...) and a browser. */
  static async start({ runners = 1, env = {}, noLogin = false } = {}) {
    const system = new System();
    system.directory = await mkdtemp(join(tmpdir(), "agentrelay-e2e-"));
    system.home = join(system.directory, "home");
    const runtime = join(system.directory, "run");
    await mkdir(system.home, { recursive: true });
    await mkdir(runtime, { mode: 0o700 });
    await mkdir(ARTIFACTS, { recursive: true });
    system.port = await freePort();
    system.url = `http://127.0.0.1:${system.port}`;
    system.noLogin = noLogin;
    system.env = {
      PATH: process.env.PATH,
      HOME: system.home,
      SHELL: "/bin/bash",
      LANG: "C.UTF-8",
      XDG_RUNTIME_DIR: runtime,
      AGENTRELAY_DATA_DIR: join(system.directory, "data"),
      AGENTRELAY_ADMIN_TOKEN: ADMIN_TOKEN,
      RUNNER_TOKEN,
      HQ_URL: `ws://127.0.0.1:${system.port}/ws/runner`,
      ...env,
    };
    system.runners = new Map();
    try {
      await system.startHq();
      for (let number = 1; number <= runners; number++) await system.startRunner(`r${number}`);
      system.browser = await chromium.launch({
        executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
        headless: true,
        args: CHROMIUM_FLAGS,
      });
    } catch (error) {
      await system.stop();
      throw error;
    }
    return system;
  }

  async startHq() {
    const args = ["--port", String(this.port), ...(this.noLogin ? ["--no-login"] : [])];
    this.hq = new Process("agentrelay-hq", args, this.env);
    await until("HQ", async () => {
      if (this.hq.child.exitCode !== null) throw new Error(`HQ ended:\n${this.hq.log}`);
      return (await fetch(`${this.url}/health`)).ok;
    });
  }

  async startRunner(id) {
    const runner = new Process("agentrelay-runner", ["--runner-id", id], this.env);
    this.runners.set(id, runner);
    await until(`runner ${id}`, async () => {
      if (runner.child.exitCode !== null) throw new Error(`runner ended:\n${runner.log}`);
      return (await this.api(`/api/runners/${id}`)).online;
    });
    return runner;
  }

  /** Ask HQ as the administrator; gives the JSON of the answer, or its text. */
  async api(path, { method = "GET", body } = {}) {
    const response = await fetch(this.url + path, {
      method,
      headers: { Authorization: `Bearer ${ADMIN_TOKEN}`, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
  }

  /** A link that logs one browser in. */
  async loginLink() {
    const printed = new Process("agentrelay-hq", ["--port", String(this.port), "--login-link"], this.env);
    await printed.exited;
    const link = printed.log.match(/https?:\S+#login=\S+/)?.[0];
    if (!link) throw new Error(`no link in: ${printed.log}`);
    return link;
  }

  /** A page of a browser of its own, logged in unless told otherwise. Errors of the page fail the test. */
  async page({ login = true, ...options } = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
    const page = await context.newPage();
    page.errors = [];
    page.on("pageerror", (error) => page.errors.push(String(error)));
    if (login) {
      await page.goto(this.noLogin ? this.url : await this.loginLink());
      await page.getByTestId("runner-item").first().waitFor();
    }
    return page;
  }

  async stop() {
    await this.browser?.close();
    for (const [id, runner] of this.runners ?? []) {
      await runner.end();
      const stopping = new Process("agentrelay-runner", ["--runner-id", id, "--stop"], this.env);
      await stopping.exited;
    }
    await this.hq?.end();
    if (this.directory) await rm(this.directory, { recursive: true, force: true });
  }
}

/** Text of the terminal that is shown, scrollback included. */
export async function terminalText(page) {
  return page.evaluate(() => window.agentrelay.readTerminal());
}

/** Wait until the shown terminal's text matches. */
export async function seeInTerminal(page, pattern, timeoutMs = START_MS) {
  const matches = (text) => (typeof pattern === "string" ? text.includes(pattern) : pattern.test(text));
  let text = "";
  try {
    return await until(`${pattern} in the terminal`, async () => {
      text = await terminalText(page);
      return matches(text) && text;
    }, timeoutMs);
  } catch (error) {
    throw new Error(`${error.message}\nterminal:\n${text}`);
  }
}

/** Type into the shown terminal as a person would. */
export async function type(page, text) {
  await page.getByTestId("terminal").locator("visible=true").first().click();
  await page.keyboard.type(text);
}

/** Start a session through the dialog; `command` as a person would type it, else the preset. */
export async function startSession(page, { runner, preset, command, cwd } = {}) {
  await page.getByTestId("new-session").first().click();
  if (runner) await page.getByTestId("runner-select").selectOption(runner);
  if (command) await page.getByTestId("command-input").fill(command);
  else if (preset) await page.locator(`[data-testid=preset-option][data-preset=${preset}]`).click();
  if (cwd) await page.getByTestId("cwd-input").fill(cwd);
  await page.getByTestId("start-button").click();
  await page.getByTestId("terminal").locator("visible=true").first().waitFor();
}

/** Processes on this machine whose environment or arguments name this system's directory. */
export async function leftovers(directory) {
  const { readdir } = await import("node:fs/promises");
  const found = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    try {
      const environment = await readFile(`/proc/${pid}/environ`, "latin1");
      if (environment.includes(directory)) {
        found.push(`${pid} ${(await readFile(`/proc/${pid}/cmdline`, "latin1")).replaceAll("\0", " ")}`);
      }
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}
