import { LayoutGrid, Menu, Plus, X } from "lucide-react";
import { useEffect, useRef } from "react";
import { sessionName, stateTone } from "../features/sessions/sessionWords";
import { IconButton } from "../ui/Button";
import { cn } from "../ui/classNames";
import { StatusDot } from "../ui/StatusDot";
import type { SessionInfo } from "../wire/objects";
import { openDialog } from "./dialogs";
import { useDirectory } from "./directory";
import { startName, type Tab, useTabs } from "./tabs";
import { useActions } from "./useActions";

export function TabBar({ shownKey, onOpenDrawer }: { shownKey: string | null; onOpenDrawer: () => void }) {
  const tabs = useTabs((state) => state.tabs);
  const { runners, sessions } = useDirectory();
  const actions = useActions();
  return (
    <header className="flex h-11 shrink-0 items-center gap-1 border-line border-b px-1.5">
      <IconButton label="Open the sidebar" onClick={onOpenDrawer} className="md:hidden">
        <Menu size={17} />
      </IconButton>
      <IconButton
        label="Overview"
        onClick={actions.goHome}
        aria-pressed={shownKey === null}
        className={cn("max-md:hidden", shownKey === null && "bg-pressed text-ink")}
      >
        <LayoutGrid size={15} />
      </IconButton>
      <nav
        aria-label="Open sessions"
        className="flex min-w-0 flex-1 items-center gap-0.5 self-stretch overflow-x-auto py-1.5 [scrollbar-width:none]"
      >
        {tabs.map((tab) => (
          <TabItem
            key={tab.key}
            tab={tab}
            session={sessions.find(({ session_id }) => session_id === tab.sessionId)}
            shown={tab.key === shownKey}
            onShow={() => actions.showTab(tab)}
            onClose={() => actions.close(tab.key, shownKey)}
          />
        ))}
        {tabs.length > 0 && (
          <IconButton
            label="New session"
            disabled={!runners.some((runner) => runner.online)}
            onClick={() => openDialog({ name: "new", wish: {} })}
          >
            <Plus size={15} />
          </IconButton>
        )}
      </nav>
    </header>
  );
}

interface TabItemProps {
  tab: Tab;
  session: SessionInfo | undefined;
  shown: boolean;
  onShow: () => void;
  onClose: () => void;
}

function TabItem({ tab, session, shown, onShow, onClose }: TabItemProps) {
  const item = useRef<HTMLDivElement>(null);
  const name = session ? sessionName(session) : tab.start ? startName(tab.start.request) : "session";
  useEffect(() => {
    if (shown) item.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [shown]);
  return (
    <div
      ref={item}
      className={cn(
        "group relative flex h-8 min-w-24 max-w-50 shrink-0 items-center rounded-md pointer-coarse:h-9",
        shown ? "bg-canvas shadow-xs ring-1 ring-line" : "hover:bg-hover",
      )}
    >
      <button
        type="button"
        aria-current={shown ? "page" : undefined}
        data-testid="tab"
        data-session-id={tab.sessionId ?? undefined}
        title={session?.title || name}
        onClick={onShow}
        onAuxClick={(event) => event.button === 1 && onClose()}
        className={cn(
          "flex h-full min-w-0 flex-1 items-center gap-2 rounded-md pr-7 pl-2.5 text-left",
          shown ? "text-ink" : "text-soft",
        )}
      >
        {tab.attention ? (
          <StatusDot tone="accent" label="wants your attention" />
        ) : (
          <StatusDot tone={session ? stateTone(session) : "idle"} />
        )}
        <span className="truncate">{name}</span>
      </button>
      <IconButton
        label={`Close tab ${name}. The session goes on.`}
        onClick={onClose}
        className={cn(
          "absolute right-1 size-5.5! rounded-sm hover:bg-pressed focus-visible:opacity-100 group-hover:opacity-100 pointer-coarse:opacity-100",
          !shown && "opacity-0",
        )}
      >
        <X size={13} />
      </IconButton>
    </div>
  );
}
