import { useEffect, useSyncExternalStore } from "react";
import { useSettings } from "./settings";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function watchSystem(listener: () => void): () => void {
  systemDark.addEventListener("change", listener);
  return () => systemDark.removeEventListener("change", listener);
}

/** Put the chosen theme on the page; tells whether it is a dark one. */
export function useDarkTheme(): boolean {
  const theme = useSettings((settings) => settings.theme);
  const system = useSyncExternalStore(watchSystem, () => systemDark.matches);
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
  return theme === "system" ? system : theme === "dark";
}
