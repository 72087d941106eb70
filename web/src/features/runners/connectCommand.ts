/** The command that connects a machine to the HQ that this page is from. */

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/**
 * @param hqUrl where HQ is, as a browser reaches it.
 * @returns the command, and whether it needs HQ's runner token: the built-in one counts on loopback only.
 */
export function connectCommand(hqUrl: string): { command: string; needsToken: boolean } {
  const url = new URL("/ws/runner", hqUrl);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const needsToken = !LOOPBACK.has(url.hostname);
  // In the environment, where other users of the machine cannot read it.
  const token = needsToken ? "RUNNER_TOKEN=<runner token> " : "";
  return { command: `${token}agentrelay-runner --hq-url ${url.href}`, needsToken };
}
