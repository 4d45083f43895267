/** Signatures for macOS are checked by a reader that takes the Go linker's own for right. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { machOProblem, signMachO } from "./macho.ts";
import { goVersion } from "./slim.ts";

const BUILD_MS = 300_000;
const isThere = (await goVersion()) !== null;
if (!isThere) console.warn("\n*** Go is not installed: signatures for macOS are NOT tested ***\n");

describe.skipIf(!isThere)("an ad-hoc signature", () => {
  let directory: string;
  const build = (goarch: string): Buffer => {
    const path = join(directory, goarch);
    execFileSync("go", ["build", "-o", path, "main.go"], {
      cwd: directory,
      env: { ...process.env, GOOS: "darwin", GOARCH: goarch, CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false" },
    });
    return readFileSync(path);
  };
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "gfe-macho-"));
    writeFileSync(join(directory, "main.go"), "package main\n\nfunc main() { println(1) }\n");
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it(
    "is made anew, made where there was none, and broken by any changed byte",
    () => {
      const [arm64, x64] = [build("arm64"), build("amd64")];
      expect(machOProblem(arm64)).toBeNull(); // by Go's linker
      expect(machOProblem(x64)).toBe("it has no signature");
      for (const file of [arm64, x64]) {
        const signed = signMachO(file, "org.example.program");
        expect(machOProblem(signed)).toBeNull();
        expect(signMachO(signed, "org.example.program").equals(signed)).toBe(true);
        expect(signed.includes("org.example.program\0")).toBe(true);
        for (const at of [4096, Math.floor(file.length / 2)]) {
          const changed = Buffer.from(signed);
          changed[at]! ^= 1;
          expect(machOProblem(changed)).toMatch(/^page \d+ is not as it was signed$/);
        }
      }
      expect(() => signMachO(Buffer.from("#!/bin/sh\n".repeat(100)), "x")).toThrow("no 64-bit Mach-O");
    },
    BUILD_MS,
  );
});
