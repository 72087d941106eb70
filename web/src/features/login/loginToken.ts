/** The token of a login link, `https://hq/#login=<token>`. It works once, so it must not stay in the address. */
export function takeLoginToken(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("login");
  if (token === null) return null;
  history.replaceState(history.state, "", location.pathname + location.search);
  return token || null;
}
