/**
 * Tells what a terminal answers to a program's query from what a person typed. Both leave xterm.js through the
 * same event.
 */

// Every answer that xterm.js gives has one of these shapes:
//   CSI ... c n R t u $y   device attributes, status, cursor position, window size, keyboard flags, DECRQM
//   CSI I, CSI O           focus, sent when a program switches focus reports on
//   DCS ... ST, OSC ... ST DECRQSS, XTVERSION, colours
// biome-ignore lint/suspicious/noControlCharactersInRegex: control sequences are what this is about
const REPLY = /^\x1b(?:\[[?>=]?[\d;:]*\$?[cnRtuy]|\[[IO]|[P\]][^\x1b\x07]*(?:\x1b\\|\x07))$/;

export function isQueryReply(data: string): boolean {
  return REPLY.test(data);
}
