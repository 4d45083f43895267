/** install.sh for real, against a hub's own routes and a release that was signed as a release is. */
import { execFile, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makeReleaseKey, type ReleaseKey } from "../release/keys.ts";
import { signRelease } from "../release/sign.ts";

const NAME = "gfe-agent-slim-linux-x64";
const PROGRAM = "#!/bin/sh\necho it works\n";
const NOW_S = Math.floor(Date.now() / 1000);
const absent = (program: string) => spawnSync(program, ["--version"]).error !== undefined;
const shells = ["dash", "bash", "busybox"].filter((shell) => !absent(shell));
const withoutShellcheck = absent("shellcheck");
if (withoutShellcheck) console.warn("NOT TESTED: shellcheck is absent.");
if (!shells.includes("dash"))
  console.warn("NOT TESTED: dash is absent; install.sh is for every POSIX shell.");

let root: string;
let release: string;
let key: ReleaseKey;
let server: Server;
let origin: string;
/** What the next requests get instead of the file. */
let meddle: ((name: string, bytes: Buffer) => Buffer | null) | null;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "gfe-install-"));
  release = join(root, "release");
  key = makeReleaseKey(join(root, "release.key"));
  makeRelease(release, key, PROGRAM, NOW_S);
  server = createServer((request, response) => {
    const name = decodeURIComponent((request.url ?? "").split("/").pop()!);
    const path = join(release, name);
    if (!existsSync(path)) return void response.writeHead(404).end();
    const whole = readFileSync(path);
    const bytes = meddle ? meddle(name, whole) : whole;
    if (bytes === null) {
      response.writeHead(200, { "content-length": whole.byteLength });
      return void response.write(whole.subarray(0, 5), () => response.destroy());
    }
    response.writeHead(200).end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(root, { recursive: true, force: true });
});

function makeRelease(
  directory: string,
  by: ReleaseKey,
  program: string,
  nowS: number,
  expiresDays = 30,
): void {
  mkdirSync(directory, { recursive: true });
  const sha256 = createHash("sha256").update(program).digest("hex");
  const files = (["x64", "arm64"] as const).map((arch) => ({
    ...{ name: `gfe-agent-slim-linux-${arch}`, os: "linux", arch, kind: "slim", sha256 },
    ...{ bytes: program.length, compressed_bytes: 1 },
  }));
  for (const { name } of files) writeFileSync(join(directory, name), program);
  writeFileSync(join(directory, "manifest.json"), JSON.stringify({ version: "1.2.3", files }));
  writeFileSync(join(directory, "SHA256SUMS"), files.map(({ name }) => `${sha256}  ${name}\n`).join(""));
  signRelease({ directory, key: by, nowS, expiresDays });
}

let home: string;
let tmp: string;
beforeEach(() => {
  meddle = null;
  home = mkdtempSync(join(root, "home-"));
  tmp = mkdtempSync(join(root, "tmp-"));
});
afterEach(() => {
  // Whatever became of it, nothing lies about.
  expect(readdirSync(tmp)).toEqual([]);
});

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** With only these programs on its path; all of them unless given. */
function install(
  args: string[] = [],
  { shell = "dash", from = origin, path = process.env.PATH! } = {},
): Promise<Ran> {
  const script = join(home, "..", `install-${shell}.sh`);
  writeFileSync(script, readFileSync(join(release, "install.sh"), "utf8").replaceAll("@HUB@", from));
  const [program, first] = shell === "busybox" ? ["busybox", ["sh"]] : [shell, []];
  return new Promise((resolve) => {
    execFile(
      program,
      [...first, script, ...args],
      { env: { HOME: home, PATH: path, TMPDIR: tmp }, timeout: 20_000 },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    );
  });
}
const installed = () => join(home, ".local/bin/gfe");

/** A folder with links to these programs only. */
function only(...programs: string[]): string {
  const folder = mkdtempSync(join(root, "path-"));
  const basics = [
    "dash",
    "sed",
    "tr",
    "cut",
    "cat",
    "cp",
    "mv",
    "rm",
    "chmod",
    "mkdir",
    "mktemp",
    "uname",
    "date",
    "grep",
    "head",
    "tail",
    "cmp",
  ];
  for (const program of [...basics, "curl", "sha256sum", ...programs])
    symlinkSync(
      spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim(),
      join(folder, program),
    );
  return folder;
}

test.each(shells)(
  "%s installs a program that works, and says what was checked and what comes next",
  async (shell) => {
    const { code, stdout, stderr } = await install([], { shell });
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/version 1\.2\.3[\s\S]*Checked: its SHA-256, and the signature/);
    expect(stdout).toContain(`${installed()} up --hub ${origin}`);
    expect(spawnSync(installed(), { encoding: "utf8" }).stdout).toBe("it works\n");
    expect(readdirSync(join(home, ".local/bin"))).toEqual(["gfe"]);
  },
);

describe("the signature", () => {
  const ways: [string, string[]][] = [
    ["OpenSSL", ["openssl"]],
    ["Node", ["node"]],
  ];
  if (!absent("minisign")) ways.push(["minisign", ["minisign"]]);

  test.each(ways)(
    "is checked by %s alone, which tells a good one from a forged one",
    async (by, programs) => {
      const path = only(...programs);
      const good = await install([], { path });
      expect([good.code, good.stdout]).toEqual([0, expect.stringContaining(`(by ${by})`)]);
      rmSync(installed());
      meddle = (name, bytes) => (name === "SHA256SUMS" ? Buffer.from(`${bytes}\n`) : bytes);
      await refused(/signature of SHA256SUMS does not fit/, { path });
      meddle = (name, bytes) =>
        name === "SHA256SUMS.minisig"
          ? Buffer.from(bytes.toString().replace("version:1", "version:9"))
          : bytes;
      await refused(/signature of SHA256SUMS does not fit/, { path });
    },
  );

  test("that nothing here can check is said to be unchecked, and refused where it is asked for", async () => {
    const path = only();
    const { code, stdout } = await install([], { path });
    expect([code, stdout]).toEqual([0, expect.stringMatching(/NOT checked: the signature/)]);
    rmSync(installed());
    await refused(/signature cannot be checked here/, { path }, ["--require-signature"]);
  });

  test("by another key, or of another file, is refused", async () => {
    const other = join(root, "other");
    makeRelease(
      other,
      makeReleaseKey(join(root, `other-${Date.now()}.key`)),
      "#!/bin/sh\necho stolen\n",
      NOW_S,
    );
    meddle = (name) => readFileSync(join(other, name));
    await refused(/signature of SHA256SUMS does not fit/);
    meddle = (name, bytes) => {
      // The manifest as sums: it is signed, but as what it is.
      if (name.startsWith("SHA256SUMS"))
        return readFileSync(join(release, name.replace("SHA256SUMS", "manifest.json")));
      return bytes;
    };
    await refused(/another file than SHA256SUMS/);
  });

  test("that has ended is refused: an old release is not to be had for a new one", async () => {
    const old = join(root, "old");
    makeRelease(old, key, PROGRAM, NOW_S - 10 * 86_400, 9);
    meddle = (name) => readFileSync(join(old, name));
    await refused(/signature of this release has ended/);
  });
});

async function refused(
  words: RegExp,
  options: Parameters<typeof install>[1] = {},
  args: string[] = [],
): Promise<void> {
  const { code, stderr } = await install(args, options);
  expect([code, stderr]).toEqual([1, expect.stringMatching(words)]);
  expect(stderr).toContain("Nothing was installed");
  expect(existsSync(installed())).toBe(false);
}

describe("leaves nothing behind, and says why, where", () => {
  test("the program was changed", async () => {
    meddle = (name, bytes) => (name === NAME || name.endsWith("arm64") ? Buffer.from(`${bytes}#`) : bytes);
    await refused(/is not what was released/);
  });

  test("the download is cut off", async () => {
    meddle = (name, bytes) => (name.startsWith("gfe-agent") ? null : bytes);
    await refused(/could not be downloaded/);
  });

  test("there is no network", async () => {
    await refused(/SHA256SUMS could not be downloaded from http:\/\/127\.0\.0\.1:9/, {
      from: "http://127.0.0.1:9",
    });
  });

  test("the place cannot be written to", async () => {
    writeFileSync(join(home, "file"), "");
    const { code, stderr } = await install(["--dir", join(home, "file/bin")]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/cannot be made: give another folder/)]);
  });

  test("the script itself was cut off: no part of it acts", async () => {
    const whole = readFileSync(join(release, "install.sh"), "utf8").replaceAll("@HUB@", origin);
    for (const share of [0.3, 0.6, 0.9, 0.99]) {
      const part = spawnSync("dash", ["-s"], {
        ...{ input: whole.slice(0, Math.floor(whole.length * share)), encoding: "utf8" },
        ...{ env: { HOME: home, PATH: process.env.PATH, TMPDIR: tmp } },
      });
      expect(part.stdout).toBe("");
      expect(existsSync(installed())).toBe(false);
    }
  });
});

test("a program that is there stays until the new one is whole, and --uninstall removes it", async () => {
  await install();
  writeFileSync(installed(), "#!/bin/sh\necho old\n");
  meddle = (name, bytes) => (name.startsWith("gfe-agent") ? Buffer.from("x") : bytes);
  expect((await install()).code).toBe(1);
  expect(spawnSync(installed(), { encoding: "utf8" }).stdout).toBe("old\n");
  meddle = null;
  await install();
  expect(spawnSync(installed(), { encoding: "utf8" }).stdout).toBe("it works\n");
  const { code, stdout } = await install(["--uninstall"]);
  expect([code, stdout]).toEqual([0, expect.stringContaining("gfe uninstall")]);
  expect(existsSync(installed())).toBe(false);
  expect(await install(["--uninstall"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/there is no/),
  });
});

test("what it does not understand changes nothing", async () => {
  expect(await install(["--sudo"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/not an option/),
  });
  expect(await install(["--kind", "fat"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/slim or full/),
  });
});

test("no script raises its rights", () => {
  for (const name of ["install.sh", "install.ps1"])
    expect(readFileSync(new URL(name, import.meta.url), "utf8")).not.toMatch(/sudo|runas|pkexec/i);
});

test.skipIf(withoutShellcheck)("shellcheck has nothing to say", () => {
  const { stdout, status } = spawnSync("shellcheck", ["-s", "sh", join(import.meta.dirname, "install.sh")], {
    encoding: "utf8",
  });
  expect([status, stdout]).toEqual([0, ""]);
});
