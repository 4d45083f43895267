import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Host, Terminal } from "../host.ts";
import { createNodeHost } from "../node-host.ts";
import { createModelHost, type ModelHostServer } from "../testing/model-host.ts";
import { modelList, modelPull, modelRemove, progressLine } from "./model.ts";

let directory: string;
let server: ModelHostServer;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "gfe-model-"));
  const content = Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(1_500_000, 1)]);
  server = await createModelHost("a/b-GGUF", [{ path: "b-Q4_0.gguf", content }]);
});
afterEach(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});
const hostWith = (terminal: Terminal | null): Host => ({
  ...createNodeHost({ env: { GFE_MODELS_DIR: directory, HF_ENDPOINT: server.url } }),
  terminal,
});
const bare = () => hostWith(null);

function output() {
  const [lines, errors]: [string[], string[]] = [[], []];
  return {
    ...{ lines, errors },
    line: (text: string) => void lines.push(text),
    error: (text: string) => void errors.push(text),
  };
}

function screen() {
  const drawn: string[] = [];
  const terminal: Terminal = {
    ...{ columns: 80, rows: 24, colour: false },
    write: (text) => void drawn.push(text),
    onKey: () => () => {},
    onResize: () => () => {},
    onHandOver: () => () => {},
    suspend() {},
  };
  return { drawn, terminal };
}

it("a pull draws its bar on a terminal, and leaves only lines behind", async () => {
  const [out, { drawn, terminal }] = [output(), screen()];
  expect(await modelPull(hostWith(terminal), { source: "a/b-GGUF" }, out)).toBe(0);
  expect(drawn.some((text) => /█+ 100 %/.test(text))).toBe(true);
  expect(drawn.at(-1)).toBe("\r\u001b[K");
  expect(out.lines).toEqual([
    "Loading b-Q4_0 (1.5 MB)",
    "b-Q4_0 is here, and it is what it should be (SHA-256).",
    "gfe up --model b-Q4_0 serves it on the built-in engine.",
  ]);
});

it("a pull says JSON, an object a line, where it is asked to", async () => {
  const out = output();
  expect(await modelPull(bare(), { source: "a/b-GGUF", json: true }, out)).toBe(0);
  const events = out.lines.map((line) => JSON.parse(line));
  expect(events[0]).toMatchObject({ type: "found", name: "b-Q4_0" });
  expect(events.at(-1)).toMatchObject({ type: "done", checked: true });
});

it("what goes wrong is one line on standard error, one object with --json, and exit status 1", async () => {
  const [plain, json] = [output(), output()];
  expect(await modelPull(bare(), { source: "nobody/nothing" }, plain)).toBe(1);
  expect(plain.errors).toEqual([expect.stringContaining("check the spelling")]);
  expect(await modelPull(bare(), { source: "nobody/nothing", json: true }, json)).toBe(1);
  expect(JSON.parse(json.lines[0]!)).toMatchObject({ type: "failed" });
});

it("what is there is listed with its size and where it came from, broken-off downloads too, and removed by name", async () => {
  const empty = output();
  await modelList(bare(), {}, empty);
  expect(empty.lines).toEqual([`There is no model in ${directory}: gfe model pull brings one.`]);
  await modelPull(bare(), { source: "a/b-GGUF" }, output());
  await writeFile(join(directory, "c.gguf.part"), "GGUF and so on");
  const listed = output();
  await modelList(bare(), {}, listed);
  expect(listed.lines).toEqual([
    "b-Q4_0    1.5 MB  a/b-GGUF@main/b-Q4_0.gguf",
    "14 B of c.gguf are here of a download that broke off: pull it again to go on.",
  ]);
  const [removed, again] = [output(), output()];
  expect(await modelRemove(bare(), { model: "b-Q4_0" }, removed)).toBe(0);
  expect(removed.lines).toEqual(["b-Q4_0 is removed: 1.5 MB are free again."]);
  expect(await modelRemove(bare(), { model: "b-Q4_0" }, again)).toBe(1);
  expect(again.errors[0]).toContain("there is no model b-Q4_0");
});

describe("a bar", () => {
  it("tells share, sizes, speed and what is left of the time", () => {
    expect(progressLine(1_200_000_000, 2_900_000_000, 38_100_000, 100)).toBe(
      "████████████░░░░░░░░░░░░░░░░░░  41 %  1.2 GB of 2.9 GB  38.1 MB/s  0:45",
    );
  });
  it("is never wider than the terminal", () => {
    for (let columns = 1; columns < 120; columns++)
      expect(progressLine(5e9, 9.99e9, 12.3e6, columns).length).toBeLessThanOrEqual(columns);
  });
  it("of an unknown length tells what came", () => {
    expect(progressLine(1_500_000, null, 0, 80)).toBe("1.5 MB");
  });
});
