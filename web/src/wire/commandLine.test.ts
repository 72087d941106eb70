import { describe, expect, it } from "vitest";
import { CommandLineError, joinCommandLine, splitCommandLine } from "./commandLine";

describe("splitCommandLine", () => {
  it.each([
    ["", []],
    ["   \t ", []],
    ["claude", ["claude"]],
    ["  claude   --resume  ", ["claude", "--resume"]],
    ["bash -c 'echo a  b'", ["bash", "-c", "echo a  b"]],
    [`bash -c "echo 'a'"`, ["bash", "-c", "echo 'a'"]],
    ["a''b", ["ab"]],
    ["'' \"\"", ["", ""]],
    [`pre"fix in"post`, ["prefix inpost"]],
    ["a\\ b", ["a b"]],
    ["'a\\b'", ["a\\b"]],
    [`"a\\"b\\\\c\\nd\\$e"`, ['a"b\\c\\nd$e']],
    ["a\\\nb", ["ab"]],
    ['"a\\\nb"', ["ab"]],
    ["a\nb", ["a", "b"]],
    ["echo $HOME *.c | wc; ls # no", ["echo", "$HOME", "*.c", "|", "wc;", "ls", "#", "no"]],
    ["echo 日本 'é è'", ["echo", "日本", "é è"]],
  ])("splits %j", (line, words) => {
    expect(splitCommandLine(line)).toEqual(words);
  });

  it.each(["'a", '"a', `a "b 'c' d`, "a\\", '"a\\'])("refuses %j, which is not finished", (line) => {
    expect(() => splitCommandLine(line)).toThrow(CommandLineError);
  });
});

describe("joinCommandLine", () => {
  it.each([
    [["claude", "--model=x"], "claude --model=x"],
    [["bash", "-c", "echo it's"], `bash -c 'echo it'\\''s'`],
    [["", " "], "'' ' '"],
  ])("quotes %j", (words, line) => {
    expect(joinCommandLine(words)).toBe(line);
  });

  it("is undone by splitting, whatever the characters", () => {
    const alphabet = ["a", " ", "'", '"', "\\", "$", "\n", "`", "é", "|"];
    let seed = 1;
    const next = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    for (let round = 0; round < 2_000; round += 1) {
      const words = Array.from({ length: next(4) }, () =>
        Array.from({ length: next(6) }, () => alphabet[next(alphabet.length)]).join(""),
      );
      expect(splitCommandLine(joinCommandLine(words))).toEqual(words);
    }
  });
});
