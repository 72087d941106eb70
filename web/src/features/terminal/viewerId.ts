/** The name of this browser tab at HQ, kept over reloads (docs/protocol.md 2.4). */

const KEY = "agentrelay.viewer";

/**
 * A duplicated tab starts with a copy of the session storage, and two viewers must not share a name. So the name
 * is in the storage only while the page is being left.
 */
function takeViewerId(): string {
  const kept = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  return kept ?? randomId();
}

function randomId(): string {
  // crypto.randomUUID exists on https and localhost only, and HQ may be on neither.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const viewerId = takeViewerId();

addEventListener("pagehide", () => sessionStorage.setItem(KEY, viewerId));
addEventListener("pageshow", () => sessionStorage.removeItem(KEY));
