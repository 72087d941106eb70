/** What arrived is not what docs/protocol.md says: the peer's fault. */
export class WireError extends Error {
  override readonly name = "WireError";
}
