/** Terminals. Heavy (xterm.js), so app/ loads this only once there is something to show. */
export { ControlBar } from "./ControlBar";
export { KeyBar } from "./KeyBar";
export { NoticeBar } from "./NoticeBar";
export { capitalize } from "./phaseWords";
export { probe } from "./probe";
export { SessionStatus } from "./SessionStatus";
export type { Phase, SessionState } from "./sessionState";
export { TerminalPane } from "./TerminalPane";
export type { Target } from "./TerminalSession";
export { type Appearance, TerminalView } from "./TerminalView";
export { useSessionState } from "./useSessionState";
export { viewerId } from "./viewerId";
