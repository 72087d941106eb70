/** What a person can do from more than one place. */
import { useMemo } from "react";
import { useNavigate } from "react-router";
import type { StartSession } from "../wire/messages";
import type { SessionInfo } from "../wire/objects";
import type { RunnerId, SessionId } from "../wire/values";
import { closeDialog } from "./dialogs";
import { closeTab, openStartTab, openTab, type Tab, tabPath } from "./tabs";

export interface Actions {
  goHome(): void;
  showTab(tab: Tab): void;
  showSession(sessionId: SessionId): void;
  /** Detach. The session goes on. */
  close(key: string, shownKey: string | null): void;
  start(runnerId: RunnerId, request: StartSession, insteadOf?: string): void;
  startAgain(session: SessionInfo, insteadOf?: string): void;
}

export function useActions(): Actions {
  const navigate = useNavigate();
  return useMemo(() => {
    const actions: Actions = {
      goHome: () => void navigate("/"),
      showTab: (tab) => void navigate(tabPath(tab)),
      showSession(sessionId) {
        openTab(sessionId);
        void navigate(`/s/${sessionId}`);
      },
      close(key, shownKey) {
        const neighbour = closeTab(key);
        if (key === shownKey) void navigate(neighbour ? tabPath(neighbour) : "/");
      },
      start(runnerId, request, insteadOf) {
        closeDialog();
        void navigate(`/start/${openStartTab(runnerId, request, insteadOf)}`);
      },
      startAgain(session, insteadOf) {
        actions.start(session.runner_id, requestOf(session), insteadOf);
      },
    };
    return actions;
  }, [navigate]);
}

/** Give the request that starts the same again. */
function requestOf({ preset, command, cwd, name, recording }: SessionInfo): StartSession {
  return {
    ...(preset ? { preset } : command && command.length > 0 ? { command } : {}),
    ...(cwd && { cwd }),
    ...(name && { name }),
    recording: recording ?? true,
  };
}
