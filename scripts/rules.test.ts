/** The rules of who may import whom catch what breaks them: a tree of small files, each with one import. */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const PROGRAM = join(ROOT, "node_modules/dependency-cruiser/bin/dependency-cruiser.mjs");
const HUB = "packages/hub/src";

/** What one file may not import, and the rule that says so. */
const forbidden: [rule: string, from: string, to: string][] = [
  ["market-is-pure", `${HUB}/market/`, `${HUB}/billing/one.ts`],
  ["market-is-pure", `${HUB}/market/`, `${HUB}/db/one.ts`],
  ["billing-knows-no-market", `${HUB}/billing/`, `${HUB}/market/one.ts`],
  ["jobs-know-no-edge", `${HUB}/jobs/`, `${HUB}/link/one.ts`],
  ["jobs-know-no-edge", `${HUB}/jobs/`, `${HUB}/hub.ts`],
  ["trust-knows-no-edge", `${HUB}/trust/`, `${HUB}/live/one.ts`],
  ["link-knows-no-http", `${HUB}/link/`, `${HUB}/http/one.ts`],
  ["http-knows-no-link", `${HUB}/http/rest/`, `${HUB}/link/one.ts`],
  ["accounts-stand-alone", `${HUB}/accounts/`, `${HUB}/billing/one.ts`],
  ["only-billing-touches-the-ledger", `${HUB}/jobs/`, "packages/ledger/src/index.ts"],
  ["protocol-stands-alone", "packages/protocol/src/", "packages/ledger/src/index.ts"],
  ["ledger-stands-alone", "packages/ledger/src/", "packages/protocol/src/index.ts"],
  ["agent-knows-the-protocol", "packages/agent/src/", `${HUB}/index.ts`],
  ["sdk-knows-the-protocol", "packages/sdk/src/", "packages/agent/src/index.ts"],
  ["web-speaks-through-the-sdk", "packages/web/src/", "packages/protocol/src/index.ts"],
  ["hub-knows-protocol-and-ledger", `${HUB}/`, "packages/agent/src/index.ts"],
  ["tracing-stands-alone", "packages/tracing/src/", "packages/protocol/src/index.ts"],
  ["spans-know-no-edge", `${HUB}/tracing/`, `${HUB}/http/one.ts`],
  ["packages-are-entered-by-their-index", "packages/cli/src/", "packages/sdk/src/http.ts"],
  ["resolvable", `${HUB}/`, `${HUB}/gone.ts`],
];
const allowed: [from: string, to: string][] = [
  [`${HUB}/jobs/`, `${HUB}/market/one.ts`],
  [`${HUB}/jobs/`, `${HUB}/billing/one.ts`],
  [`${HUB}/billing/`, "packages/ledger/src/index.ts"],
  [`${HUB}/http/`, `${HUB}/jobs/one.ts`],
  ["packages/agent/src/", "packages/protocol/src/index.ts"],
  ["packages/agent/src/", "packages/tracing/src/index.ts"],
  [`${HUB}/http/`, `${HUB}/tracing/one.ts`],
  ["packages/web/src/", "packages/sdk/src/index.ts"],
  ["packages/cli/src/", `${HUB}/index.ts`],
];

let tree: string;
/** The rules that each file breaks. */
const broken = new Map<string, string[]>();

const fileOf = (folder: string, to: string): string => `${folder}from-${to.replace(/\W+/g, "-")}.ts`;
const importing = (from: string, to: string, kind = ""): string =>
  `import ${kind}{ one } from "${"../".repeat(from.split("/").length - 1)}${to}";\nexport const two = one;\n`;

function write(path: string, text: string): void {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
}

beforeAll(async () => {
  tree = mkdtempSync(join(tmpdir(), "gfe-rules-"));
  for (const file of [".dependency-cruiser.js", "package.json", "tsconfig.json"])
    cpSync(join(ROOT, file), join(tree, file));
  symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
  const imports = [...forbidden.map(([, from, to]) => [from, to] as const), ...allowed];
  for (const [from, to] of imports) {
    if (!to.endsWith("gone.ts")) write(to, "export const one = 1;\n");
    write(fileOf(from, to), importing(fileOf(from, to), to));
  }
  write(`${HUB}/round/a.ts`, importing(`${HUB}/round/a.ts`, `${HUB}/round/b.ts`));
  write(`${HUB}/round/b.ts`, 'import { two } from "./a.ts";\nexport const one = () => two;\n');
  write(`${HUB}/typed/a.ts`, importing(`${HUB}/typed/a.ts`, `${HUB}/typed/b.ts`));
  write(`${HUB}/typed/b.ts`, 'import type { two } from "./a.ts";\nexport const one: typeof two = 1;\n');
  const args = [PROGRAM, "--config", ".dependency-cruiser.js", "--output-type", "json", "packages"];
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd: tree,
    maxBuffer: 1 << 26,
  }).catch(
    (failed: { stdout: string }) => failed, // its exit status is the number of violations
  );
  const { summary } = JSON.parse(stdout) as {
    summary: { violations: { from: string; rule: { name: string } }[] };
  };
  for (const { from, rule } of summary.violations) broken.set(from, [...(broken.get(from) ?? []), rule.name]);
});
afterAll(() => rmSync(tree, { recursive: true, force: true }));

test.each(forbidden)("%s: %s* may not import %s", (rule, from, to) => {
  expect(broken.get(fileOf(from, to))).toContain(rule);
});

test.each(allowed)("%s* may import %s", (from, to) => {
  expect(broken.get(fileOf(from, to))).toBeUndefined();
});

test("two files may not import each other, but for their types", () => {
  expect(broken.get(`${HUB}/round/a.ts`)).toEqual(["no-cycles"]);
  expect(broken.get(`${HUB}/typed/a.ts`)).toBeUndefined();
});
