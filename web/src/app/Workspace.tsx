import { useEffect } from "react";
import { useSettings } from "../features/settings/settings";
import { deck } from "./deck";
import { offerTerminals } from "./diagnostics";
import { SessionView } from "./SessionView";
import { type Tab, useTabs } from "./tabs";

offerTerminals(deck);

/** The terminals of all tabs; shows one of them. Loaded once there is a tab, because xterm.js is large. */
export default function Workspace({ shown, dark }: { shown: Tab | null; dark: boolean }) {
  const tabs = useTabs((state) => state.tabs);
  const { fontSize, cursorBlink } = useSettings();
  const shownKey = shown?.key ?? null;
  useEffect(() => deck.follow(tabs, shownKey), [tabs, shownKey]);
  // Back from the login page.
  useEffect(() => deck.afterLogin(), []);
  if (!shown) return null;
  return (
    <SessionView
      key={shown.key}
      tab={shown}
      view={deck.view(shown)}
      appearance={{ dark, fontSize, cursorBlink }}
    />
  );
}
