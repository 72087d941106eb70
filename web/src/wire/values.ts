/** The scalar values that messages and REST objects are made of. */
import * as v from "valibot";

export const SessionId = v.pipe(v.string(), v.minLength(1), v.brand("SessionId"));
export type SessionId = v.InferOutput<typeof SessionId>;

export const RunnerId = v.pipe(v.string(), v.minLength(1), v.brand("RunnerId"));
export type RunnerId = v.InferOutput<typeof RunnerId>;

/** Names one life of a session's PTY: `(session_id, epoch)` names exactly one stream of bytes. */
export const Epoch = v.pipe(v.string(), v.brand("Epoch"));
export type Epoch = v.InferOutput<typeof Epoch>;

/**
 * A count of bytes since the session started. It is a u64 on the wire; a JavaScript number holds it exactly up
 * to 2^53 bytes, which a session that writes 1 GB/s reaches after 104 days.
 */
export const Offset = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** Rows or columns of a terminal. */
export const Size = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000));
