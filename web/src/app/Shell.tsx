import { lazy, Suspense, useEffect, useState } from "react";
import { useMatch, useNavigate } from "react-router";
import { sessionName } from "../features/sessions/sessionWords";
import { cn } from "../ui/classNames";
import { ErrorBoundary } from "../ui/ErrorBoundary";
import { isMac } from "../ui/Kbd";
import type { Me } from "../wire/objects";
import type { SessionId } from "../wire/values";
import { Dialogs, preloadDialogs } from "./Dialogs";
import { openDialog } from "./dialogs";
import { useDirectory, useDirectoryFeed } from "./directory";
import { Home } from "./Home";
import { Sidebar } from "./Sidebar";
import { pageShortcut } from "./shortcuts";
import { TabBar } from "./TabBar";
import { openTab, tabPath, useTabs } from "./tabs";
import { useActions } from "./useActions";

const loadWorkspace = () => import("./Workspace");
const Workspace = lazy(loadWorkspace);

/** How long the first view has the network for itself. */
const PRELOAD_AFTER_MS = 1_500;

/** The application once HQ has let us in: sidebar, tabs, and what the address names. */
export function Shell({ me, dark }: { me: Me; dark: boolean }) {
  useDirectoryFeed();
  const { sessions } = useDirectory();
  const tabs = useTabs((state) => state.tabs);
  const shown = useShownTab();
  const [drawerOpen, setDrawerOpen] = useState(false);
  useShortcuts(shown?.key ?? null);
  useEffect(() => {
    const timer = setTimeout(() => {
      preloadDialogs();
      void loadWorkspace().catch(() => {});
    }, PRELOAD_AFTER_MS);
    return () => clearTimeout(timer);
  }, []);

  const info = sessions.find((session) => session.session_id === shown?.sessionId);
  useEffect(() => {
    document.title = info ? `${sessionName(info)} · AgentRelay` : "AgentRelay";
  }, [info]);

  return (
    <div className="app-height flex overflow-hidden bg-sunken">
      {drawerOpen && (
        <button
          type="button"
          aria-label="Close the sidebar"
          onClick={() => setDrawerOpen(false)}
          className="fixed inset-0 z-20 animate-fade bg-scrim md:hidden"
        />
      )}
      <div
        className={cn(
          "z-30 w-[min(18rem,84vw)] shrink-0 border-line border-r bg-sunken md:static md:w-62 md:visible md:translate-x-0",
          "max-md:fixed max-md:inset-y-0 max-md:left-0 max-md:transition-[translate,visibility] max-md:duration-200",
          !drawerOpen && "max-md:invisible max-md:-translate-x-full",
        )}
      >
        <Sidebar shownSession={shown?.sessionId ?? null} onChosen={() => setDrawerOpen(false)} />
      </div>
      <div className="flex min-w-0 flex-1 flex-col">
        <TabBar shownKey={shown?.key ?? null} onOpenDrawer={() => setDrawerOpen(true)} />
        <main className="relative min-h-0 flex-1 bg-canvas">
          {!shown && <Home />}
          {tabs.length > 0 && (
            <ErrorBoundary what="The terminal">
              <Suspense>
                <Workspace shown={shown} dark={dark} />
              </Suspense>
            </ErrorBoundary>
          )}
        </main>
      </div>
      <Dialogs me={me} shownKey={shown?.key ?? null} />
    </div>
  );
}

/** Give the tab that the address names, opening it where it is not, or null for the overview. */
function useShownTab() {
  const navigate = useNavigate();
  const tabs = useTabs((state) => state.tabs);
  const sessionId = (useMatch("/s/:sessionId")?.params.sessionId ?? null) as SessionId | null;
  const startKey = useMatch("/start/:key")?.params.key ?? null;
  const starting = tabs.find((tab) => tab.key === startKey);
  useEffect(() => {
    if (sessionId) openTab(sessionId);
  }, [sessionId]);
  useEffect(() => {
    if (startKey && !starting) void navigate("/", { replace: true });
    if (starting?.sessionId) void navigate(tabPath(starting), { replace: true });
  }, [navigate, startKey, starting]);
  return starting ?? tabs.find((tab) => sessionId !== null && tab.sessionId === sessionId) ?? null;
}

function useShortcuts(shownKey: string | null): void {
  const actions = useActions();
  useEffect(() => {
    function onKey(event: KeyboardEvent) {
      const target = event.target instanceof Element ? event.target : null;
      const inField = target?.closest("input, textarea, select, [contenteditable]") != null;
      const inDialog = target?.closest("[role=dialog], [role=alertdialog]") != null;
      const action = pageShortcut(event, isMac, inField);
      if (!action || inDialog) return;
      event.preventDefault();
      const { tabs } = useTabs.getState();
      const at = tabs.findIndex(({ key }) => key === shownKey);
      const show = (index: number) => {
        const tab = tabs[index];
        if (tab) actions.showTab(tab);
      };
      if (action === "palette") openDialog({ name: "palette" });
      else if (action === "new") openDialog({ name: "new", wish: {} });
      else if (action === "next_tab") show((at + 1) % tabs.length);
      else if (action === "previous_tab") show((Math.max(at, 0) + tabs.length - 1) % tabs.length);
      else if (action === "close_tab") shownKey && actions.close(shownKey, shownKey);
      else show(action.tab);
    }
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [actions, shownKey]);
}
