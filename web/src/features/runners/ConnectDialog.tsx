import { Dialog } from "../../ui/Dialog";
import { ConnectRunner } from "./ConnectRunner";

export function ConnectDialog({ hqUrl, onClose }: { hqUrl: string; onClose: () => void }) {
  return (
    <Dialog
      title="Connect a runner"
      description="Run this on the machine where your agents are to work. It dials out to HQ and opens no port."
      onClose={onClose}
    >
      <ConnectRunner hqUrl={hqUrl} />
    </Dialog>
  );
}
