/** What a TerminalSession tells the page about itself. Small, immutable, and free of terminal bytes. */
import type { ExitStatus } from "../../wire/exitStatus";
import type { Dimensions } from "../../wire/messages";
import type { RunnerId, SessionId } from "../../wire/values";

export type Phase =
  /** HQ was asked to start a program and has not answered. */
  | { name: "starting" }
  | { name: "connecting" }
  /** History is on its way to the terminal. */
  | { name: "replaying" }
  | { name: "live" }
  /** `retryAtMs` is on the session's clock; null while an attempt is under way. */
  | { name: "reconnecting"; reason: string; retryAtMs: number | null }
  | { name: "ended"; exit: ExitStatus }
  /** Nothing more happens by itself. `message` is a sentence for people. */
  | { name: "failed"; code: string; message: string }
  /** HQ does not know the session (any more). */
  | { name: "gone" };

export type Control = "you" | "other" | "nobody";

export interface Notice {
  /** Grows with every notice. */
  id: number;
  text: string;
}

export interface SessionState {
  sessionId: SessionId | null;
  runnerId: RunnerId | null;
  phase: Phase;
  control: Control;
  /** Size of the PTY, as far as HQ has said. */
  pty: Dimensions | null;
  /** Title that the program set. */
  title: string;
  /** How often the program rang since this viewer came. */
  bells: number;
  /** Ctrl counts for the next key. */
  ctrl: boolean;
  notice: Notice | null;
}
