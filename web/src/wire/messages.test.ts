import { describe, expect, it } from "vitest";
import vectors from "../../../tests/vectors/viewer_messages.json";
import { decodeHqMessage, encodeViewerMessage, MAX_CONTROL_BYTES, type ViewerMessage } from "./messages";
import { WireError } from "./wireError";

describe("what a viewer says", () => {
  it.each(vectors.to_hq)("$name", ({ message, text }) => {
    const encoded = encodeViewerMessage(message as ViewerMessage);
    expect(JSON.parse(encoded)).toEqual(JSON.parse(text));
    expect(Buffer.byteLength(encoded)).toBeLessThan(MAX_CONTROL_BYTES);
  });
});

describe("what HQ says", () => {
  it.each(vectors.to_viewer)("$name", ({ message, text }) => {
    expect(decodeHqMessage(text)).toEqual(message);
  });

  it.each(vectors.unknown)("ignores a type it does not know: %s", (text) => {
    expect(decodeHqMessage(text)).toBeNull();
  });

  it.each(vectors.malformed_to_viewer)("refuses $name", ({ text }) => {
    expect(() => decodeHqMessage(text)).toThrow(WireError);
  });
});
