import { ArrowDown, ArrowLeft, ArrowRight, ArrowUp, ClipboardPaste } from "lucide-react";
import type { ReactNode } from "react";
import { cn } from "../../ui/classNames";
import type { Arrow } from "./keys";
import type { TerminalView } from "./TerminalView";
import { useSessionState } from "./useSessionState";

const arrows: { arrow: Arrow; icon: ReactNode }[] = [
  { arrow: "left", icon: <ArrowLeft size={16} /> },
  { arrow: "up", icon: <ArrowUp size={16} /> },
  { arrow: "down", icon: <ArrowDown size={16} /> },
  { arrow: "right", icon: <ArrowRight size={16} /> },
];

/** The keys that a phone's keyboard lacks, above it. */
export function KeyBar({ view }: { view: TerminalView }) {
  const { session } = view;
  const { ctrl } = useSessionState(session);
  return (
    <div
      role="toolbar"
      aria-label="Terminal keys"
      className="hidden shrink-0 items-stretch gap-1 border-line border-t bg-sunken px-1.5 pt-1.5 pb-[max(0.375rem,env(safe-area-inset-bottom))] pointer-coarse:flex"
    >
      <Key label="Esc" onPress={() => session.type("\x1b")}>
        Esc
      </Key>
      <Key label="Tab" onPress={() => session.type("\t")}>
        Tab
      </Key>
      <Key label="Ctrl, for the next key" pressed={ctrl} onPress={() => session.armCtrl(!ctrl)}>
        Ctrl
      </Key>
      {arrows.map(({ arrow, icon }) => (
        <Key key={arrow} label={`Arrow ${arrow}`} onPress={() => view.typeArrow(arrow)}>
          {icon}
        </Key>
      ))}
      <Key label="Interrupt: Control C" onPress={() => session.type("\x03")}>
        ^C
      </Key>
      {navigator.clipboard && (
        <Key
          label="Paste"
          onPress={() => void navigator.clipboard.readText().then((text) => view.paste(text))}
        >
          <ClipboardPaste size={15} />
        </Key>
      )}
    </div>
  );
}

interface KeyProps {
  label: string;
  pressed?: boolean;
  onPress: () => void;
  children: ReactNode;
}

function Key({ label, pressed, onPress, children }: KeyProps) {
  return (
    <button
      type="button"
      aria-label={label}
      aria-pressed={pressed}
      // Keeps the focus in the terminal, and with it the soft keyboard on the screen.
      onPointerDown={(event) => event.preventDefault()}
      onClick={onPress}
      className={cn(
        "flex h-10 min-w-0 flex-1 select-none items-center justify-center rounded-md border text-[13px] active:bg-pressed",
        pressed ? "border-accent bg-accent-wash text-accent" : "border-line bg-raised text-ink",
      )}
    >
      {children}
    </button>
  );
}
