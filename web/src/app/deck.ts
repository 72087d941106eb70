/** The terminals of all open tabs, shown or not. Follows the list of tabs; React only mounts what is shown. */

import { useSettings } from "../features/settings/settings";
import type { SessionState } from "../features/terminal";
import { probe, type Target, TerminalView, viewerId } from "../features/terminal";
import { isMac } from "../ui/Kbd";
import type { SessionId } from "../wire/values";
import { terminalShortcut } from "./shortcuts";
import { setAttention, type Tab, tabStarted, useTabs } from "./tabs";

const wsBase = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}`;

class Deck {
  readonly #views = new Map<string, TerminalView>();
  #shownKey: string | null = null;

  /** Give the terminal of a tab. */
  view(tab: Tab): TerminalView {
    const known = this.#views.get(tab.key);
    if (known) return known;
    const { fontSize, cursorBlink } = useSettings.getState();
    const view = new TerminalView({
      target: targetOf(tab),
      viewer: viewerId,
      wsBase,
      probe,
      // The theme follows when it is shown.
      appearance: { dark: true, fontSize, cursorBlink },
      isShortcut: (event) => terminalShortcut(event, isMac) !== null,
    });
    this.#views.set(tab.key, view);
    let { bells } = view.session.state;
    view.session.subscribe(() => {
      const { state } = view.session;
      if (state.sessionId && tab.sessionId === null) tabStarted(tab.key, state.sessionId);
      if (state.bells > bells && this.#shownKey !== tab.key) setAttention(tab.key, true);
      bells = state.bells;
    });
    return view;
  }

  /** Attach to the sessions of all tabs but the shown one, which attaches once its size is known. */
  follow(tabs: readonly Tab[], shownKey: string | null): void {
    this.#shownKey = shownKey;
    if (shownKey) setAttention(shownKey, false);
    for (const tab of tabs) if (tab.key !== shownKey) this.view(tab).session.connect();
  }

  /** Detach from the sessions whose tabs are closed. */
  forget(tabs: readonly Tab[]): void {
    for (const [key, view] of this.#views) {
      if (tabs.some((tab) => tab.key === key)) continue;
      this.#views.delete(key);
      view.dispose();
    }
  }

  /** There is reason to believe that HQ can be reached. */
  hurry(): void {
    for (const { session } of this.#views.values()) session.hurry();
  }

  /** Go on with what needed a login. */
  afterLogin(): void {
    for (const { session } of this.#views.values()) {
      const { phase } = session.state;
      if (phase.name === "failed" && phase.code === "login_required") session.retry();
    }
  }

  states(): SessionState[] {
    return [...this.#views.values()].map(({ session }) => session.state);
  }

  /** Give the text of a session's terminal; without an id, of the one that is shown. */
  readTerminal(sessionId?: SessionId): string {
    for (const [key, { session }] of this.#views) {
      const wanted = sessionId === undefined ? key === this.#shownKey : session.state.sessionId === sessionId;
      if (wanted) return session.readText();
    }
    return "";
  }
}

function targetOf({ sessionId, start }: Tab): Target {
  if (sessionId) return { kind: "attach", sessionId };
  if (start) return { kind: "start", ...start };
  throw new Error("a tab has either a session or something to start");
}

export const deck = new Deck();

useTabs.subscribe(({ tabs }) => deck.forget(tabs));

addEventListener("online", () => deck.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") deck.hurry();
});
