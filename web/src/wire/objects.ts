/** Objects of the REST interface and of `/api/events`. Field names are HQ's. */
import * as v from "valibot";
import { RunnerId, SessionId } from "./values";

const optionalText = v.nullish(v.string(), null);
const optionalNumber = v.nullish(v.number(), null);

export const Preset = v.object({
  name: v.string(),
  label: v.nullish(v.string(), ""),
  path: v.nullish(v.string(), ""),
  note: v.nullish(v.string(), ""),
});
export type Preset = v.InferOutput<typeof Preset>;

export const RunnerInfo = v.object({
  runner_id: RunnerId,
  hostname: v.nullish(v.string(), ""),
  os: v.nullish(v.string(), ""),
  arch: v.nullish(v.string(), ""),
  version: v.nullish(v.string(), ""),
  online: v.boolean(),
  connected_at: optionalNumber,
  last_seen_at: optionalNumber,
  presets: v.nullish(v.array(Preset), []),
});
export type RunnerInfo = v.InferOutput<typeof RunnerInfo>;

/** `away`: its runner has no link now. `lost`: its runner came back without it. */
export const SessionState = v.picklist(["starting", "running", "away", "ended", "lost"]);
export type SessionState = v.InferOutput<typeof SessionState>;

export const SessionInfo = v.object({
  session_id: SessionId,
  runner_id: RunnerId,
  name: optionalText,
  command: v.nullish(v.array(v.string()), []),
  preset: optionalText,
  cwd: optionalText,
  state: SessionState,
  created_at: optionalNumber,
  ended_at: optionalNumber,
  exit_code: optionalNumber,
  signal: optionalNumber,
  viewers: v.nullish(v.number(), 0),
  recording: v.nullish(v.boolean(), true),
  title: optionalText,
});
export type SessionInfo = v.InferOutput<typeof SessionInfo>;

export const Me = v.object({
  login: v.picklist(["cookie", "bearer", "none"]),
  login_required: v.boolean(),
  hq_version: v.nullish(v.string(), ""),
});
export type Me = v.InferOutput<typeof Me>;

export const RunnerList = v.object({ runners: v.array(RunnerInfo) });
export const SessionList = v.object({ sessions: v.array(SessionInfo) });

/** The part of an `application/problem+json` body that people are shown. */
export const Problem = v.object({ title: v.optional(v.string()), detail: v.nullish(v.string(), null) });

/** Payloads of `/api/events` by kind. */
export const eventPayloads = {
  snapshot: v.object({ runners: v.array(RunnerInfo), sessions: v.array(SessionInfo) }),
  runner: RunnerInfo,
  session: SessionInfo,
  session_removed: v.object({ session_id: SessionId }),
  runner_removed: v.object({ runner_id: RunnerId }),
} as const;

export type EventKind = keyof typeof eventPayloads;
export type HqEvent = {
  [Kind in EventKind]: { kind: Kind; data: v.InferOutput<(typeof eventPayloads)[Kind]> };
}[EventKind];

export const eventKinds = Object.keys(eventPayloads) as EventKind[];
