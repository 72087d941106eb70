import { useMutation } from "@tanstack/react-query";
import { Pencil } from "lucide-react";
import { useState } from "react";
import { renameSession } from "../../transport/http";
import type { SessionId } from "../../wire/values";

/** The name of a session; click it to change it. Enter keeps the change, Escape does not. */
export function SessionName({ sessionId, name }: { sessionId: SessionId; name: string }) {
  const [draft, setDraft] = useState<string | null>(null);
  const rename = useMutation({ mutationFn: (to: string) => renameSession(sessionId, to) });
  const shown = rename.isPending ? rename.variables : name;

  function finish(keep: boolean) {
    const to = draft?.trim();
    if (keep && to && to !== name) rename.mutate(to);
    setDraft(null);
  }

  if (draft === null) {
    return (
      <button
        type="button"
        onClick={() => setDraft(name)}
        aria-label={`Rename ${shown}`}
        title={rename.isError ? `Not renamed: ${rename.error.message}` : "Rename"}
        className="group flex h-7 min-w-0 items-center gap-1.5 rounded-md px-1.5 hover:bg-hover hover:pr-5 focus-visible:pr-5"
      >
        <span className="truncate font-semibold">{shown}</span>
        <Pencil
          size={11}
          aria-hidden="true"
          className="-mr-4 shrink-0 text-faint opacity-0 group-hover:opacity-100 group-focus-visible:opacity-100"
        />
      </button>
    );
  }
  return (
    <input
      aria-label="Session name"
      // biome-ignore lint/a11y/noAutofocus: it was asked for just now
      autoFocus
      maxLength={200}
      value={draft}
      size={Math.max(8, draft.length)}
      onFocus={(event) => event.target.select()}
      onChange={(event) => setDraft(event.target.value)}
      onBlur={() => finish(true)}
      onKeyDown={(event) => {
        if (event.key === "Enter") finish(true);
        if (event.key === "Escape") finish(false);
      }}
      className="h-7 min-w-0 max-w-full rounded-md border border-accent bg-canvas px-1.5 font-semibold outline-none pointer-coarse:text-base"
    />
  );
}
