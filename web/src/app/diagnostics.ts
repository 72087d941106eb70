/**
 * `window.agentrelay`: a look inside for support and for tests, in every build. Reads, never changes.
 *
 *   agentrelay.state()                what the page knows: tabs, runners, sessions, terminals
 *   agentrelay.readTerminal(id?)      the text of a terminal with its scrollback; the shown one without an id
 */
import type { SessionState } from "../features/terminal";
import type { Directory } from "../wire/directory";
import type { SessionId } from "../wire/values";
import { directoryKey, queryClient, useFeed } from "./directory";
import { useTabs } from "./tabs";

interface Terminals {
  states(): SessionState[];
  readTerminal(sessionId?: SessionId): string;
}

let terminals: Terminals = { states: () => [], readTerminal: () => "" };

/** Terminals are loaded later than the page. */
export function offerTerminals(loaded: Terminals): void {
  terminals = loaded;
}

declare global {
  interface Window {
    agentrelay: { state(): object; readTerminal(sessionId?: string): string };
  }
}

window.agentrelay = {
  state: () => ({
    live: useFeed.getState().live,
    tabs: useTabs.getState().tabs,
    terminals: terminals.states(),
    ...queryClient.getQueryData<Directory>(directoryKey),
  }),
  readTerminal: (sessionId) => terminals.readTerminal(sessionId as SessionId | undefined),
};
