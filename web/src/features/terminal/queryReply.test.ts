import { Terminal } from "@xterm/headless";
import { expect, it } from "vitest";
import { isQueryReply } from "./queryReply";

const QUERIES = [
  "\x1b[c", // DA1
  "\x1b[>c", // DA2
  "\x1b[5n", // status
  "\x1b[6n", // CPR
  "\x1b[?6n", // DECXCPR
  "\x1b[?25$p", // DECRQM
  "\x1b[4$p", // DECRQM, ANSI mode
  "\x1bP$qm\x1b\\", // DECRQSS
  "\x1b[18t", // window size
];

it.each(QUERIES)("knows what xterm.js answers to %j", async (query) => {
  const terminal = new Terminal({ windowOptions: { getWinSizeChars: true }, allowProposedApi: true });
  const answers: string[] = [];
  terminal.onData((data) => answers.push(data));
  await new Promise<void>((done) => terminal.write(query, done));
  expect(answers.length).toBe(1);
  expect(answers.every(isQueryReply)).toBe(true);
});

it.each([
  "\x1b[I",
  "\x1b[O",
  "\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
  "\x1b]4;1;rgb:0000/0000/0000\x07",
  "\x1bP>|xterm.js(6.0.0)\x1b\\",
  "\x1b[?997;1n",
])("knows the answer %j", (answer) => {
  expect(isQueryReply(answer)).toBe(true);
});

it.each([
  "a",
  "\x1b",
  "\x03",
  "\x1b[A",
  "\x1bOA",
  "\x1b[1;5C",
  "\x1b[15~",
  "\x1bc",
  "\x1b[200~paste\x1b[201~",
  "\x1b[<0;3;4M",
  "\x1b[<0;3;4m",
  "日本",
])("takes %j for typed", (typed) => {
  expect(isQueryReply(typed)).toBe(false);
});
