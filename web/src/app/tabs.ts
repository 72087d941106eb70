/** Open tabs. This browser remembers them, by the ids of their sessions only. */
import { create } from "zustand";
import { persist } from "zustand/middleware";
import type { StartSession } from "../wire/messages";
import type { RunnerId, SessionId } from "../wire/values";

export interface Tab {
  /** Stays the same for the life of the tab. */
  key: string;
  /** Null until HQ has started the session. */
  sessionId: SessionId | null;
  /** What to start, for a tab that starts a session. */
  start?: { runnerId: RunnerId; request: StartSession };
  /** Its program rang while it was not shown. */
  attention?: boolean;
}

interface Tabs {
  tabs: readonly Tab[];
}

export const useTabs = create<Tabs>()(
  persist((): Tabs => ({ tabs: [] }), {
    name: "agentrelay.tabs",
    partialize: ({ tabs }) => ({ tabs: tabs.flatMap(({ sessionId }) => sessionId ?? []) }),
    merge: (stored, current) => {
      const ids = (stored as { tabs?: unknown } | null)?.tabs;
      return Array.isArray(ids) ? { tabs: ids.map((id) => attachTab(id)) } : current;
    },
  }),
);

function attachTab(sessionId: SessionId): Tab {
  return { key: sessionId, sessionId };
}

function change(key: string, part: Partial<Tab>): void {
  useTabs.setState(({ tabs }) => ({
    tabs: tabs.map((tab) => (tab.key === key ? { ...tab, ...part } : tab)),
  }));
}

/** Where a tab is shown. */
export function tabPath(tab: Tab): string {
  return tab.sessionId ? `/s/${tab.sessionId}` : `/start/${tab.key}`;
}

export function openTab(sessionId: SessionId): void {
  const { tabs } = useTabs.getState();
  if (tabs.some((tab) => tab.sessionId === sessionId)) return;
  useTabs.setState({ tabs: [...tabs, attachTab(sessionId)] });
}

/** What to call a session that HQ has not named yet. */
export function startName({ name, preset, command }: StartSession): string {
  return name || preset || command?.[0]?.split("/").at(-1) || "shell";
}

let started = 0;

/**
 * Open a tab that starts a session, in the place of the tab with the key `instead` where there is one.
 *
 * @returns its key.
 */
export function openStartTab(runnerId: RunnerId, request: StartSession, instead?: string): string {
  started += 1;
  const tab: Tab = { key: `new-${started}`, sessionId: null, start: { runnerId, request } };
  useTabs.setState(({ tabs }) => {
    const at = tabs.findIndex(({ key }) => key === instead);
    return { tabs: at < 0 ? [...tabs, tab] : tabs.with(at, tab) };
  });
  return tab.key;
}

export function tabStarted(key: string, sessionId: SessionId): void {
  change(key, { sessionId });
}

export function setAttention(key: string, attention: boolean): void {
  if (useTabs.getState().tabs.find((tab) => tab.key === key)?.attention !== attention) {
    change(key, { attention });
  }
}

/** Close a tab. Gives the one to show instead: its right neighbour, else its left one, else null. */
export function closeTab(key: string): Tab | null {
  const { tabs } = useTabs.getState();
  const at = tabs.findIndex((tab) => tab.key === key);
  if (at < 0) return null;
  useTabs.setState({ tabs: tabs.toSpliced(at, 1) });
  return tabs[at + 1] ?? tabs[at - 1] ?? null;
}
