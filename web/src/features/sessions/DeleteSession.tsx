import { useMutation } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { deleteSession } from "../../transport/http";
import { Confirm } from "../../ui/Dialog";
import type { SessionInfo } from "../../wire/objects";
import { hasEnded, sessionCommand, sessionName } from "./sessionWords";

interface DeleteSessionProps {
  session: SessionInfo;
  onClose: () => void;
  /** The session is gone from HQ, not only ended. */
  onRemoved: () => void;
}

/** Asks, then ends a session that runs, or removes one that has ended. */
export function DeleteSession({ session, onClose, onRemoved }: DeleteSessionProps) {
  // What was asked stays what is done: a session that ends meanwhile must not be removed by "End session".
  const [ended] = useState(() => hasEnded(session));
  const overtaken = !ended && hasEnded(session);
  useEffect(() => {
    if (overtaken) onClose();
  }, [overtaken, onClose]);
  const remove = useMutation({
    mutationFn: () => deleteSession(session.session_id),
    onSuccess: () => {
      onClose();
      if (ended) onRemoved();
    },
  });
  const name = sessionName(session);
  return (
    <Confirm
      title={ended ? `Remove ${name}?` : `End ${name}?`}
      action={ended ? "Remove" : "End session"}
      busy={remove.isPending}
      error={remove.error?.message}
      onConfirm={() => remove.mutate()}
      onClose={onClose}
    >
      {ended ? (
        <p>Its output is deleted from HQ. This cannot be undone.</p>
      ) : (
        <>
          <p>
            <code className="break-all font-mono text-ink text-xs">{sessionCommand(session)}</code> and all
            processes it started are told to stop, and killed if they have not after 5 s. Its output stays
            readable.
          </p>
          <p className="mt-2">To leave it running, close its tab instead.</p>
        </>
      )}
    </Confirm>
  );
}
