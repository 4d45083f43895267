import { expect, it } from "vitest";
import { checkHome } from "./home.ts";
import type { Files } from "./host.ts";
import { createMemoryFiles } from "./memory-files.ts";

const directories = { config: "/c", state: "/s" };

/** Writes below `path` fail. */
function readOnly(path: string, files: Files = createMemoryFiles()): Files {
  return {
    ...files,
    write: (to, ...rest) =>
      to.startsWith(path)
        ? Promise.reject(Object.assign(new Error("EROFS: read-only file system"), { code: "EROFS" }))
        : files.write(to, ...rest),
  };
}

it("a directory that takes nothing is named, with what to do, and nothing is left of the look", async () => {
  for (const path of ["/c", "/s"])
    await expect(checkHome({ files: readOnly(path), directories })).rejects.toMatchObject({
      code: "home_unwritable",
      message: expect.stringMatching(new RegExp(`^${path} cannot be written \\(EROFS.*--config-dir`)),
    });
  const files = createMemoryFiles();
  await checkHome({ files, directories });
  expect([await files.list("/c"), await files.list("/s")]).toEqual([[], []]);
});

it("a configuration that is complete may be read-only", async () => {
  const files = createMemoryFiles();
  for (const name of ["node-key.json", "hubs.json"]) await files.write(`/c/${name}`, "{}", { mode: 0o600 });
  await checkHome({ files: readOnly("/c", files), directories });
});
