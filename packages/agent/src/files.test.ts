/** What every host's files must do: on the disk, and in memory. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Files } from "./host.ts";
import { createMemoryFiles } from "./memory-files.ts";
import { nodeFiles } from "./node-files.ts";

const root = await mkdtemp(join(tmpdir(), "gfe-files-"));
afterAll(() => rm(root, { recursive: true, force: true }));
const text = async (files: Files, path: string) => {
  const bytes = await files.read(path);
  return bytes && new TextDecoder().decode(bytes);
};
const bytes = (value: string) => new TextEncoder().encode(value);

describe.each<[string, Files, string]>([
  ["the disk", nodeFiles, root],
  ["memory", createMemoryFiles(), "/data"],
])("files on %s", (_where, files, directory) => {
  const at = (...names: string[]) => files.join(directory, ...names);

  it("are written on behind what they hold, also by a second writer", async () => {
    for (const piece of ["one ", "two"]) {
      const writer = await files.append(at("log"), { mode: 0o600 });
      await writer.write(bytes(piece));
      await writer.close();
    }
    expect(await text(files, at("log"))).toBe("one two");
    expect((await files.facts(at("log")))?.mode).toBe(0o600);
  });

  it("take another's place in one step", async () => {
    await files.write(at("old"), "old", { mode: 0o600 });
    await files.write(at("new"), "new", { mode: 0o600 });
    await files.rename(at("new"), at("old"));
    expect([await text(files, at("old")), await text(files, at("new"))]).toEqual(["new", null]);
    await expect(files.rename(at("never"), at("old"))).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("are listed by name, folders with them, and none where there is no folder", async () => {
    await files.makeDirectory(at("listed", "below"), 0o700);
    await files.write(at("listed", "a"), "", { mode: 0o600 });
    await files.write(at("listed", "below", "b"), "", { mode: 0o600 });
    expect((await files.list(at("listed"))).toSorted()).toEqual(["a", "below"]);
    expect(await files.list(at("nowhere"))).toEqual([]);
  });

  it("go with the folder they are in, and one that is absent goes without a word", async () => {
    await files.makeDirectory(at("gone"), 0o700);
    await files.write(at("gone", "a"), "", { mode: 0o600 });
    await files.remove(at("gone"));
    await files.remove(at("gone"));
    expect(await files.facts(at("gone", "a"))).toBeNull();
  });

  it("tell how much room is left, also where nothing is yet", async () => {
    expect(await files.freeBytes(at("not", "made", "yet"))).toBeGreaterThan(0);
  });
});
