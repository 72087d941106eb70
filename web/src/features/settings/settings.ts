/** What a person has chosen for this browser. `public/theme.js` reads the theme from the same place. */
import { create } from "zustand";
import { persist } from "zustand/middleware";

export type Theme = "system" | "light" | "dark";

export const FONT_SIZES = { min: 9, max: 24, normal: 13 } as const;

interface Settings {
  theme: Theme;
  /** Of terminals, in CSS pixels. */
  fontSize: number;
  cursorBlink: boolean;
}

export const useSettings = create<Settings>()(
  persist((): Settings => ({ theme: "system", fontSize: FONT_SIZES.normal, cursorBlink: true }), {
    name: "agentrelay.settings",
  }),
);

export function setTheme(theme: Theme): void {
  useSettings.setState({ theme });
}

export function setFontSize(fontSize: number): void {
  const { min, max } = FONT_SIZES;
  useSettings.setState({ fontSize: Math.min(max, Math.max(min, fontSize)) });
}

export function setCursorBlink(cursorBlink: boolean): void {
  useSettings.setState({ cursorBlink });
}
