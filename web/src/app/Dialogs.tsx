import { lazy, Suspense } from "react";
import { logout } from "../transport/http";
import { isMac } from "../ui/Kbd";
import type { Me } from "../wire/objects";
import { closeDialog, useDialog } from "./dialogs";
import { meKey, queryClient, useDirectory } from "./directory";
import { hqUrl } from "./hqUrl";
import { shortcutHelp } from "./shortcuts";
import { useTabs } from "./tabs";
import { useActions } from "./useActions";

const NewSessionDialog = lazy(() =>
  import("../features/sessions/NewSessionDialog").then((module) => ({ default: module.NewSessionDialog })),
);
const DeleteSession = lazy(() =>
  import("../features/sessions/DeleteSession").then((module) => ({ default: module.DeleteSession })),
);
const SettingsDialog = lazy(() =>
  import("../features/settings/SettingsDialog").then((module) => ({ default: module.SettingsDialog })),
);
const ConnectDialog = lazy(() =>
  import("../features/runners/ConnectDialog").then((module) => ({ default: module.ConnectDialog })),
);
const Palette = lazy(() => import("./Palette").then((module) => ({ default: module.Palette })));

/** The dialog that is open, if one is. Loaded when it is first asked for. */
export function Dialogs({ me, shownKey }: { me: Me; shownKey: string | null }) {
  return <Suspense>{<Dialog me={me} shownKey={shownKey} />}</Suspense>;
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
