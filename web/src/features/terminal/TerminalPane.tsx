import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef } from "react";
import { cn } from "../../ui/classNames";
import type { Appearance, TerminalView } from "./TerminalView";
import { useSessionState } from "./useSessionState";

const hasMouse = matchMedia("(pointer: fine)");

/** The place of a terminal. The terminal itself belongs to its view, which outlives this component. */
export function TerminalPane({ view, appearance }: { view: TerminalView; appearance: Appearance }) {
  const place = useRef<HTMLDivElement>(null);
  const { control, pty, sessionId } = useSessionState(view.session);

  useEffect(() => {
    if (!place.current) return;
    view.mount(place.current);
    view.session.connect();
    // On a phone the focus would call the keyboard up, over half of what there is to read.
    if (hasMouse.matches) view.focus();
    return () => view.unmount();
  }, [view]);

  const { dark, fontSize, cursorBlink } = appearance;
  useEffect(() => view.setAppearance({ dark, fontSize, cursorBlink }), [view, dark, fontSize, cursorBlink]);

  const watching = control !== "you" && pty !== null;
  return (
    <div
      data-testid="terminal"
      data-session-id={sessionId ?? undefined}
      className={cn("absolute inset-0 overflow-auto p-2", watching ? "bg-sunken" : "bg-canvas")}
    >
      <div
        ref={place}
        className={cn(
          "h-full w-full",
          watching && "[&>.xterm]:mx-auto [&>.xterm]:w-fit [&>.xterm]:ring-1 [&>.xterm]:ring-line",
        )}
      />
    </div>
  );
}
