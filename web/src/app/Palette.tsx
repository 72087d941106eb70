import { Command } from "cmdk";
import { LayoutGrid, MonitorCog, Play, Settings, SquareTerminal } from "lucide-react";
import type { ReactNode } from "react";
import { sessionCommand, sessionName, stateTone } from "../features/sessions/sessionWords";
import { setTheme, type Theme } from "../features/settings/settings";
import { StatusDot } from "../ui/StatusDot";
import { openDialog } from "./dialogs";
import { useDirectory } from "./directory";
import { useActions } from "./useActions";

const themes: readonly Theme[] = ["system", "light", "dark"];

/** Go to a session, start one, change a setting: by typing a part of its name. */
export function Palette({ onClose }: { onClose: () => void }) {
  const { runners, sessions } = useDirectory();
  const actions = useActions();
  const after = (action: () => void) => () => {
    onClose();
    action();
  };
  const open = sessions.filter((session) => session.state !== "ended");
  const ended = sessions.filter((session) => session.state === "ended");
  return (
    <Command.Dialog
      open
      loop
      onOpenChange={(isOpen) => !isOpen && onClose()}
      label="Go to anything"
      overlayClassName="fixed inset-0 z-40 animate-fade bg-scrim"
      contentClassName="fixed top-[10vh] left-1/2 z-50 w-[min(36rem,calc(100vw-1.5rem))] -translate-x-1/2 animate-pop overflow-hidden rounded-xl bg-raised shadow-float outline-none"
    >
      <Command.Input
        placeholder="Go to a session, start one, change a setting…"
        className="h-12 w-full border-line border-b bg-transparent px-4 text-[15px] outline-none"
      />
      <Command.List className="max-h-[min(24rem,60vh)] overflow-y-auto p-1.5">
        <Command.Empty className="px-3 py-6 text-center text-faint">Nothing of that name.</Command.Empty>
        <Group heading="Sessions">
          {[...open, ...ended].map((session) => (
            <Item
              key={session.session_id}
              value={`${sessionName(session)} ${sessionCommand(session)} ${session.runner_id} ${session.session_id}`}
              icon={<StatusDot tone={stateTone(session)} />}
              aside={session.runner_id}
              onSelect={after(() => actions.showSession(session.session_id))}
            >
              {sessionName(session)}
            </Item>
          ))}
        </Group>
        <Group heading="Start">
          {runners
            .filter((runner) => runner.online)
            .flatMap((runner) =>
              (runner.presets ?? []).map(({ name, label }) => (
                <Item
                  key={`${runner.runner_id} ${name}`}
                  value={`start ${label} ${name} ${runner.runner_id}`}
                  icon={<Play size={13} />}
                  aside={runner.runner_id}
                  onSelect={after(() =>
                    openDialog({ name: "new", wish: { runnerId: runner.runner_id, preset: name } }),
                  )}
                >
                  {label || name}
                </Item>
              )),
            )}
          <Item
            value="start new session command"
            icon={<SquareTerminal size={14} />}
            onSelect={after(() => openDialog({ name: "new", wish: {} }))}
          >
            New session…
          </Item>
        </Group>
        <Group heading="More">
          <Item value="overview home" icon={<LayoutGrid size={14} />} onSelect={after(actions.goHome)}>
            Overview
          </Item>
          <Item
            value="settings shortcuts"
            icon={<Settings size={14} />}
            onSelect={after(() => openDialog({ name: "settings" }))}
          >
            Settings and shortcuts
          </Item>
          {themes.map((theme) => (
            <Item
              key={theme}
              value={`theme ${theme}`}
              icon={<MonitorCog size={14} />}
              onSelect={after(() => setTheme(theme))}
            >
              Theme: {theme}
            </Item>
          ))}
        </Group>
      </Command.List>
    </Command.Dialog>
  );
}

function Group({ heading, children }: { heading: string; children: ReactNode }) {
  return (
    <Command.Group
      heading={heading}
      className="[&_[cmdk-group-heading]]:px-2.5 [&_[cmdk-group-heading]]:pt-2 [&_[cmdk-group-heading]]:pb-1 [&_[cmdk-group-heading]]:text-faint [&_[cmdk-group-heading]]:text-xs"
    >
      {children}
    </Command.Group>
  );
}

interface ItemProps {
  value: string;
  icon: ReactNode;
  aside?: string;
  onSelect: () => void;
  children: ReactNode;
}

function Item({ value, icon, aside, onSelect, children }: ItemProps) {
  return (
    <Command.Item
      value={value}
      onSelect={onSelect}
      className="flex h-9 items-center gap-2.5 rounded-md px-2.5 data-[selected=true]:bg-hover pointer-coarse:h-11"
    >
      <span className="flex w-4 justify-center text-faint">{icon}</span>
      <span className="min-w-0 flex-1 truncate">{children}</span>
      {aside && <span className="shrink-0 text-faint text-xs">{aside}</span>}
    </Command.Item>
  );
}
