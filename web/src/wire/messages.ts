/** Control messages of the viewer socket: docs/protocol.md, section 2. */
import * as v from "valibot";
import { Epoch, Offset, RunnerId, SessionId, Size } from "./values";
import { WireError } from "./wireError";

/** Longest control message either side accepts, in bytes of UTF-8. */
export const MAX_CONTROL_BYTES = 65_536;

export interface Dimensions {
  rows: number;
  cols: number;
}

export interface StartSession {
  command?: string[];
  preset?: string;
  cwd?: string;
  env?: Record<string, string>;
  rows?: number;
  cols?: number;
  name?: string;
  recording?: boolean;
  viewer?: string;
}

export interface Attach {
  from?: number;
  epoch?: string;
  rows?: number;
  cols?: number;
  viewer?: string;
}

/** What a viewer may say. */
export type ViewerMessage =
  | { type: "start_session"; payload: StartSession }
  | { type: "attach"; payload: Attach }
  | { type: "resize"; payload: Dimensions }
  | { type: "ack"; payload: { offset: number } }
  | { type: "take_control"; payload: Record<never, never> }
  | { type: "ping"; payload: Record<never, never> }
  | { type: "signal"; payload: { name: string } };

const SessionStarted = v.object({
  session_id: SessionId,
  runner_id: RunnerId,
  epoch: Epoch,
  pid: v.nullish(v.number()),
  rows: Size,
  cols: Size,
  viewer: v.string(),
  ref: v.optional(v.string()),
});

const Attached = v.object({
  session_id: SessionId,
  epoch: Epoch,
  offset: Offset,
  rows: Size,
  cols: Size,
  control: v.boolean(),
  viewer: v.string(),
  input: v.nullable(Offset),
  recording: v.boolean(),
  replay: v.object({ kind: v.picklist(["log", "snapshot"]), bytes: Offset }),
});

const hqPayloads = {
  session_started: SessionStarted,
  attached: Attached,
  resync: Attached,
  resized: v.object({ rows: Size, cols: Size }),
  control: v.object({ viewer: v.nullable(v.string()), you: v.boolean() }),
  gap: v.object({ from: Offset, to: Offset }),
  input_ack: v.object({ offset: Offset }),
  session_ended: v.object({
    session_id: SessionId,
    exit_code: v.nullable(v.pipe(v.number(), v.safeInteger())),
    signal: v.nullable(v.pipe(v.number(), v.safeInteger())),
  }),
  pong: v.object({}),
  error: v.object({ code: v.string(), message: v.string() }),
} as const;

type HqPayloads = typeof hqPayloads;

/** What HQ may say to a viewer. */
export type HqMessage = {
  [Type in keyof HqPayloads]: { type: Type; payload: v.InferOutput<HqPayloads[Type]> };
}[keyof HqPayloads];

export type SessionStarted = v.InferOutput<typeof SessionStarted>;
export type Attached = v.InferOutput<typeof Attached>;

const Envelope = v.object({ type: v.string(), payload: v.record(v.string(), v.unknown()) });

/** Give the text frame of `message`. */
export function encodeViewerMessage(message: ViewerMessage): string {
  return JSON.stringify(message);
}

/**
 * Read a text frame from HQ.
 *
 * @returns the message, or null where its type is one this viewer does not know, which is to be ignored.
 * @throws WireError where the text is not a control message or a field is of the wrong type or out of range.
 */
export function decodeHqMessage(text: string): HqMessage | null {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new WireError(`a text frame from HQ is not JSON: ${text.slice(0, 80)}`);
  }
  const envelope = v.safeParse(Envelope, json);
  if (!envelope.success) {
    throw new WireError(`a text frame from HQ is not {type, payload}: ${text.slice(0, 80)}`);
  }
  const { type, payload } = envelope.output;
  if (!isKnown(type)) return null;
  const parsed = v.safeParse(hqPayloads[type], payload);
  if (!parsed.success) {
    const issue = parsed.issues[0];
    throw new WireError(`"${type}" from HQ: ${v.getDotPath(issue) ?? "payload"}: ${issue.message}`);
  }
  return { type, payload: parsed.output } as HqMessage;
}

function isKnown(type: string): type is keyof HqPayloads {
  return Object.hasOwn(hqPayloads, type);
}
