/** What was started from this browser before, so that the next start is a matter of Enter. */
import * as v from "valibot";
import type { RunnerId } from "../../wire/values";

const KEY = "agentrelay.starts";
const MAX_DIRECTORIES = 8;

const Recent = v.object({
  runner: v.optional(v.string()),
  preset: v.optional(v.string(), ""),
  directories: v.optional(v.record(v.string(), v.array(v.string())), {}),
});
export type Recent = v.InferOutput<typeof Recent>;

export function readRecent(): Recent {
  try {
    const parsed = v.safeParse(Recent, JSON.parse(localStorage.getItem(KEY) ?? "{}"));
    if (parsed.success) return parsed.output;
  } catch {
    // Not ours, or storage is off: there is nothing to remember then.
  }
  return { preset: "", directories: {} };
}

export function rememberStart(runner: RunnerId, preset: string, cwd: string): void {
  const recent = readRecent();
  const before = recent.directories[runner] ?? [];
  const directories = cwd ? [cwd, ...before.filter((one) => one !== cwd)].slice(0, MAX_DIRECTORIES) : before;
  try {
    localStorage.setItem(
      KEY,
      JSON.stringify({ runner, preset, directories: { ...recent.directories, [runner]: directories } }),
    );
  } catch {
    // A full or forbidden storage must not keep anybody from starting a session.
  }
}
