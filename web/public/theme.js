// Puts the chosen theme on the page before it is painted. The settings (src/features/settings) write it.
try {
  const { theme } = JSON.parse(localStorage.getItem("agentrelay.settings") ?? "{}").state ?? {};
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage that cannot be read: the system's theme it is.
}
