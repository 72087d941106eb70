import { expect, it } from "vitest";
import { connectCommand } from "./connectCommand";

it.each([
  ["http://127.0.0.1:8080/", "agentrelay-runner --hq-url ws://127.0.0.1:8080/ws/runner"],
  ["http://localhost:9000/s/abc", "agentrelay-runner --hq-url ws://localhost:9000/ws/runner"],
  ["http://[::1]:8080/", "agentrelay-runner --hq-url ws://[::1]:8080/ws/runner"],
  [
    "https://hq.example.com/",
    "RUNNER_TOKEN=<runner token> agentrelay-runner --hq-url wss://hq.example.com/ws/runner",
  ],
])("names the HQ at %s", (url, command) => {
  expect(connectCommand(url).command).toBe(command);
});
