// Feeds byte streams to xterm.js and tells what it shows.
//
// A request is a line of JSON on standard input: {rows, cols, pieces: [base64, ...]}. The answer is one on
// standard output: the state after all pieces. xterm.js comes from web/node_modules, so `npm ci` there first.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../../web/package.json", import.meta.url));
const { Terminal } = require("@xterm/headless");
const { Unicode11Addon } = require("@xterm/addon-unicode11");

function describeCell(cell) {
  const flags = ["Bold", "Italic", "Dim", "Underline", "Blink", "Inverse", "Invisible", "Strikethrough", "Overline"];
  const set = flags.filter((flag) => cell[`is${flag}`]()).join(" ");
  const color = (kind) =>
    cell[`is${kind}Default`]() ? "" : `${cell[`is${kind}RGB`]() ? "rgb" : "palette"}${cell[`get${kind}Color`]()}`;
  return [cell.getWidth(), color("Fg"), color("Bg"), set].join("|");
}

function describeLine(buffer, y) {
  const line = buffer.getLine(y);
  const text = line.translateToString(false);
  const looks = [];
  for (let x = 0; x < line.length; x++) {
    const cell = line.getCell(x);
    // A blank shows its background only.
    looks.push(cell.getChars() === "" ? `|${describeCell(cell).split("|")[2]}` : describeCell(cell));
  }
  return { text: text.trimEnd(), wrapped: line.isWrapped, looks: looks.join(",") };
}

function describeBuffer(buffer) {
  const lines = [];
  for (let y = 0; y < buffer.length; y++) lines.push(describeLine(buffer, y));
  return { lines, cursor: [buffer.cursorY, buffer.cursorX], base: buffer.baseY };
}

async function run({ rows, cols, pieces }) {
  const terminal = new Terminal({ rows, cols, scrollback: 10000, allowProposedApi: true });
  terminal.loadAddon(new Unicode11Addon());
  terminal.unicode.activeVersion = "11";
  let title = "";
  terminal.onTitleChange((value) => {
    title = value;
  });
  for (const piece of pieces) {
    await new Promise((done) => terminal.write(Buffer.from(piece, "base64"), done));
  }
  const state = {
    active: terminal.buffer.active.type,
    normal: describeBuffer(terminal.buffer.normal),
    alternate: terminal.buffer.active.type === "alternate" ? describeBuffer(terminal.buffer.alternate) : null,
    modes: terminal.modes,
    title,
  };
  terminal.dispose();
  return state;
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await run(JSON.parse(line)))}\n`);
}
