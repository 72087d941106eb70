import { X } from "lucide-react";
import { useEffect, useState } from "react";
import { IconButton } from "../../ui/Button";
import { Sentence } from "../../ui/Sentence";
import type { TerminalSession } from "./TerminalSession";
import { useSessionState } from "./useSessionState";

const SHOWN_MS = 8_000;

/** The latest thing that a person should know about the session, for a while. */
export function NoticeBar({ session }: { session: TerminalSession }) {
  const { notice } = useSessionState(session);
  const [closedId, setClosedId] = useState(0);
  const id = notice?.id ?? 0;
  useEffect(() => {
    const timer = setTimeout(() => setClosedId(id), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [id]);
  const shown = notice !== null && notice.id > closedId;
  return (
    <div role="alert" className="pointer-events-none absolute inset-x-3 bottom-3 z-10 flex justify-center">
      {shown && (
        <div className="pointer-events-auto flex max-w-140 animate-pop items-center gap-2 rounded-lg bg-raised py-1.5 pr-1.5 pl-3 text-xs shadow-float">
          <span className="min-w-0 text-ink">
            <Sentence>{notice.text}</Sentence>
          </span>
          <IconButton label="Dismiss" onClick={() => setClosedId(id)}>
            <X size={13} />
          </IconButton>
        </div>
      )}
    </div>
  );
}
