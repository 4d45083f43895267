import { expect, test } from "vitest";
import { inOrder, platformOf } from "./platform.ts";

test.each([
  [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
    {},
    "windows x64",
  ],
  ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", {}, "linux x64"],
  ["Mozilla/5.0 (X11; Linux aarch64; rv:140.0) Gecko/20100101 Firefox/140.0", {}, "linux arm64"],
  ["Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0", { platform: "Linux", architecture: "arm" }, "linux arm64"],
  ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18 Safari/605", {}, "macos arm64"],
  [
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/140.0",
    { platform: "macOS", architecture: "x86" },
    "macos x64",
  ],
  ["Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/140.0 Mobile Safari/537.36", {}, "none"],
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148", {}, "none"],
  ["curl/8.9", {}, "none"],
])("a visitor with %s gets what runs there", (userAgent, hints, expected) => {
  const found = platformOf({ userAgent, ...hints });
  expect(found ? `${found.os} ${found.arch}` : "none").toBe(expected);
});

test("what fits comes first, and nothing is left out", () => {
  const file = (name: string) => {
    const [kind, os, arch] = name.split(" ") as ["slim", "linux", "x64"];
    return { name, kind, os, arch, bytes: 1, compressed_bytes: 1, sha256: "0".repeat(64) };
  };
  const names = [
    "full linux x64",
    "slim linux arm64",
    "slim linux x64",
    "full windows x64",
    "slim windows x64",
  ];
  expect(inOrder(names.map(file), { os: "windows", arch: "x64" }).map(({ name }) => name)).toEqual([
    "slim windows x64",
    "full windows x64",
    "slim linux arm64",
    "slim linux x64",
    "full linux x64",
  ]);
});
