import { lazy, Suspense } from "react";
import { logout } from "../transport/http";
import { ErrorBoundary } from "../ui/ErrorBoundary";
import { isMac } from "../ui/Kbd";
import type { Me } from "../wire/objects";
import { closeDialog, useDialog } from "./dialogs";
import { meKey, queryClient, useDirectory } from "./directory";
import { hqUrl } from "./hqUrl";
import { shortcutHelp } from "./shortcuts";
import { useTabs } from "./tabs";
import { useActions } from "./useActions";

const load = {
  newSession: () => import("../features/sessions/NewSessionDialog"),
  deleteSession: () => import("../features/sessions/DeleteSession"),
  settings: () => import("../features/settings/SettingsDialog"),
  connect: () => import("../features/runners/ConnectDialog"),
  palette: () => import("./Palette"),
};

const NewSessionDialog = lazy(() => load.newSession().then((part) => ({ default: part.NewSessionDialog })));
const DeleteSession = lazy(() => load.deleteSession().then((part) => ({ default: part.DeleteSession })));
const SettingsDialog = lazy(() => load.settings().then((part) => ({ default: part.SettingsDialog })));
const ConnectDialog = lazy(() => load.connect().then((part) => ({ default: part.ConnectDialog })));
const Palette = lazy(() => load.palette().then((part) => ({ default: part.Palette })));

/** Load every dialog, so that one opens at once, and also while HQ is away. */
export function preloadDialogs(): void {
  for (const part of Object.values(load)) void part().catch(() => {});
}

/** The dialog that is open, if one is. */
export function Dialogs({ me, shownKey }: { me: Me; shownKey: string | null }) {
  return (
    <ErrorBoundary what="The dialog">
      <Suspense>
        <Dialog me={me} shownKey={shownKey} />
      </Suspense>
    </ErrorBoundary>
  );
}

function Dialog({ me, shownKey }: { me: Me; shownKey: string | null }) {
  const dialog = useDialog((state) => state.dialog);
  const { runners, sessions } = useDirectory();
  const actions = useActions();
  switch (dialog?.name) {
    case undefined:
      return null;
    case "new":
      return (
        <NewSessionDialog
          runners={runners}
          wish={dialog.wish}
          onStart={(runnerId, request) => actions.start(runnerId, request)}
          onClose={closeDialog}
        />
      );
    case "palette":
      return <Palette onClose={closeDialog} />;
    case "settings":
      return (
        <SettingsDialog
          onClose={closeDialog}
          shortcuts={shortcutHelp(isMac)}
          hqVersion={me.hq_version ?? ""}
          onLogout={
            me.login === "cookie"
              ? () => {
                  closeDialog();
                  void logout().then(() => queryClient.invalidateQueries({ queryKey: meKey }));
                }
              : null
          }
        />
      );
    case "connect":
      return <ConnectDialog hqUrl={hqUrl} onClose={closeDialog} />;
    case "delete": {
      const session = sessions.find(({ session_id }) => session_id === dialog.sessionId);
      if (!session) return null;
      return (
        <DeleteSession
          session={session}
          onClose={closeDialog}
          onRemoved={() => {
            const tab = useTabs.getState().tabs.find(({ sessionId }) => sessionId === dialog.sessionId);
            if (tab) actions.close(tab.key, shownKey);
          }}
        />
      );
    }
  }
}
