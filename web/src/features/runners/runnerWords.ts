import type { RunnerInfo } from "../../wire/objects";

const SYSTEMS: Record<string, string> = { darwin: "macOS", linux: "Linux", windows: "Windows" };

/** Such as "macOS, arm64". */
export function describeSystem({ os, arch }: Pick<RunnerInfo, "os" | "arch">): string {
  return [SYSTEMS[os?.toLowerCase() ?? ""] ?? os, arch].filter(Boolean).join(", ");
}
