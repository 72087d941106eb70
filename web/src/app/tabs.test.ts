import { beforeEach, describe, expect, it } from "vitest";
import type { RunnerId, SessionId } from "../wire/values";
import { closeTab, openStartTab, openTab, tabPath, tabStarted, useTabs } from "./tabs";

const id = (text: string) => text as SessionId;
const keys = () => useTabs.getState().tabs.map(({ key }) => key);

beforeEach(() => useTabs.setState({ tabs: [] }));

describe("tabs", () => {
  it("has one tab for each session", () => {
    openTab(id("a"));
    openTab(id("b"));
    openTab(id("a"));
    expect(keys()).toEqual(["a", "b"]);
  });

  it("keeps its key while its session gets an id", () => {
    const key = openStartTab("mac" as RunnerId, {});
    const path = () => useTabs.getState().tabs.map(tabPath);
    expect(path()).toEqual([`/start/${key}`]);
    tabStarted(key, id("a"));
    expect(keys()).toEqual([key]);
    expect(path()).toEqual(["/s/a"]);
    openTab(id("a"));
    expect(keys()).toEqual([key]);
  });

  it("starts again in the place of the old tab", () => {
    for (const name of ["a", "b", "c"]) openTab(id(name));
    const key = openStartTab("mac" as RunnerId, {}, "b");
    expect(keys()).toEqual(["a", key, "c"]);
  });

  it("shows a neighbour of what was closed", () => {
    for (const name of ["a", "b", "c"]) openTab(id(name));
    expect(closeTab("b")?.key).toBe("c");
    expect(closeTab("c")?.key).toBe("a");
    expect(closeTab("a")).toBeNull();
    expect(closeTab("a")).toBeNull();
  });
});
