/** How a program ended, in words. */

// Numbers as on Linux; the same on macOS for those that end programs in practice, except SIGBUS and SIGUSR.
const SIGNALS: Record<number, string> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  5: "SIGTRAP",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  10: "SIGUSR1",
  11: "SIGSEGV",
  12: "SIGUSR2",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
  24: "SIGXCPU",
  25: "SIGXFSZ",
  31: "SIGSYS",
};

export interface ExitStatus {
  exit_code: number | null;
  signal: number | null;
}

/** Say how a session ended, as a phrase that starts with a verb: "ended with exit code 1". */
export function describeExit({ exit_code, signal }: ExitStatus): string {
  if (signal !== null) return `ended by ${SIGNALS[signal] ?? `signal ${signal}`}`;
  if (exit_code === 0) return "ended normally";
  if (exit_code !== null) return `ended with exit code ${exit_code}`;
  return "ended, exit status unknown";
}

/** Signals that somebody sends to end a program in order: SIGHUP, SIGINT, SIGTERM. */
const ORDERLY = new Set([1, 2, 15]);

/** Whether an end is one that nobody has to look at. */
export function isOrderlyEnd({ exit_code, signal }: ExitStatus): boolean {
  return signal === null ? exit_code === 0 : ORDERLY.has(signal);
}
