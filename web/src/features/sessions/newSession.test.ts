import { expect, it } from "vitest";
import { readFields } from "./newSession";

const fields = { preset: "", commandLine: "", cwd: "", name: "", recording: true };

it.each([
  [{}, { recording: true }],
  [{ preset: "claude" }, { preset: "claude", recording: true }],
  [
    { preset: "claude", commandLine: "bash -c 'a b'" },
    { command: ["bash", "-c", "a b"], recording: true },
  ],
  [
    { cwd: " /srv ", name: " build ", recording: false },
    { cwd: "/srv", name: "build", recording: false },
  ],
  [{ commandLine: "echo 'a" }, { field: "commandLine", message: "A single quote (') is not closed." }],
])("makes of %j what HQ is asked for", (change, request) => {
  expect(readFields({ ...fields, ...change })).toEqual(request);
});
