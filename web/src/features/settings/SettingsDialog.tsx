import { Minus, Monitor, Moon, Plus, Sun } from "lucide-react";
import { RadioGroup } from "radix-ui";
import type { ReactNode } from "react";
import { Button, IconButton } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { Kbd } from "../../ui/Kbd";
import { Switch } from "../../ui/Switch";
import { FONT_SIZES, setCursorBlink, setFontSize, setTheme, type Theme, useSettings } from "./settings";

const themes: { value: Theme; label: string; icon: ReactNode }[] = [
  { value: "system", label: "System", icon: <Monitor size={14} /> },
  { value: "light", label: "Light", icon: <Sun size={14} /> },
  { value: "dark", label: "Dark", icon: <Moon size={14} /> },
];

export interface ShortcutGroup {
  where: string;
  shortcuts: readonly { keys: readonly string[]; does: string }[];
}

interface SettingsDialogProps {
  onClose: () => void;
  shortcuts: readonly ShortcutGroup[];
  hqVersion: string;
  /** Null where HQ asks for no login. */
  onLogout: (() => void) | null;
}

export function SettingsDialog({ onClose, shortcuts, hqVersion, onLogout }: SettingsDialogProps) {
  const { theme, fontSize, cursorBlink } = useSettings();
  return (
    <Dialog
      title="Settings"
      onClose={onClose}
      footer={
        <>
          <span className="flex-1 text-faint text-xs">AgentRelay {hqVersion}</span>
          {onLogout && <Button onClick={onLogout}>Log out</Button>}
        </>
      }
    >
      <div className="flex flex-col gap-5">
        <div className="flex flex-col gap-1.5">
          <span id="theme-label" className="font-medium text-xs">
            Theme
          </span>
          <RadioGroup.Root
            aria-labelledby="theme-label"
            value={theme}
            onValueChange={(value) => setTheme(value as Theme)}
            className="grid grid-cols-3 gap-1 rounded-lg bg-sunken p-1 ring-1 ring-line ring-inset"
          >
            {themes.map(({ value, label, icon }) => (
              <RadioGroup.Item
                key={value}
                value={value}
                className="flex h-8 items-center justify-center gap-1.5 rounded-md text-soft text-xs data-[state=checked]:bg-raised data-[state=checked]:text-ink data-[state=checked]:shadow-sm data-[state=checked]:ring-1 data-[state=checked]:ring-line"
              >
                {icon}
                {label}
              </RadioGroup.Item>
            ))}
          </RadioGroup.Root>
        </div>

        <div className="flex items-center justify-between">
          <span id="font-size-label" className="font-medium text-xs">
            Terminal font size
          </span>
          {/* biome-ignore lint/a11y/useSemanticElements: a fieldset does not lay its children out as a row */}
          <div role="group" aria-labelledby="font-size-label" className="flex items-center gap-1">
            <IconButton
              label="Smaller"
              look="outline"
              disabled={fontSize <= FONT_SIZES.min}
              onClick={() => setFontSize(fontSize - 1)}
            >
              <Minus size={13} />
            </IconButton>
            <output className="w-12 text-center text-xs tabular-nums">{fontSize} px</output>
            <IconButton
              label="Larger"
              look="outline"
              disabled={fontSize >= FONT_SIZES.max}
              onClick={() => setFontSize(fontSize + 1)}
            >
              <Plus size={13} />
            </IconButton>
          </div>
        </div>

        <Switch id="cursor-blink" label="Blinking cursor" checked={cursorBlink} onChange={setCursorBlink} />

        {shortcuts.map(({ where, shortcuts }) => (
          <section
            key={where}
            aria-label={`Shortcuts: ${where}`}
            className="flex flex-col gap-1.5 border-line border-t pt-4 pointer-coarse:hidden"
          >
            <h3 className="mb-0.5 font-medium text-xs">{where}</h3>
            {shortcuts.map(({ keys, does }) => (
              <p key={does} className="flex items-center justify-between gap-4 text-soft text-xs">
                {does}
                <Kbd keys={keys} />
              </p>
            ))}
          </section>
        ))}
      </div>
    </Dialog>
  );
}
