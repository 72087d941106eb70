import { useSyncExternalStore } from "react";
import type { SessionState } from "./sessionState";
import type { TerminalSession } from "./TerminalSession";

export function useSessionState(session: TerminalSession): SessionState {
  return useSyncExternalStore(session.subscribe, session.getState);
}
