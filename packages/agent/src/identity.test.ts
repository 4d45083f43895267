import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { verifySignature } from "@gfe/protocol";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createHubRecords } from "./hub-records.ts";
import { loadIdentity } from "./identity.ts";
import { createNodeHost } from "./node-host.ts";

let directory: string;
const warnings: string[] = [];
const hostOf = () =>
  createNodeHost({
    configDir: join(directory, "config", "gfe"),
    stateDir: join(directory, "state"),
    log: { info() {}, warn: (_fields, message) => void warnings.push(message) },
  });
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "gfe-identity-"));
  warnings.length = 0;
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const keyPath = () => join(directory, "config", "gfe", "node-key.json");
const modeOf = async (path: string) => (await stat(path)).mode & 0o777;

describe("the node key", () => {
  it("is made once, for its owner's eyes only", async () => {
    const first = await loadIdentity(hostOf());
    expect(await modeOf(keyPath())).toBe(0o600);
    expect(await modeOf(join(directory, "config", "gfe"))).toBe(0o700);
    const second = await loadIdentity(hostOf());
    expect(second.publicKey).toBe(first.publicKey);
    const said = { purpose: "test" };
    expect(await verifySignature(first.publicKey, said, await second.sign(said))).toBe(true);
  });

  it("is one, although two agents start at once", async () => {
    const made = await Promise.all([1, 2, 3, 4].map(() => loadIdentity(hostOf())));
    expect(new Set(made.map(({ publicKey }) => publicKey)).size).toBe(1);
  });

  it("is closed to others again, with a warning", async () => {
    await loadIdentity(hostOf());
    await chmod(keyPath(), 0o644);
    await loadIdentity(hostOf());
    expect(await modeOf(keyPath())).toBe(0o600);
    expect(warnings).toEqual([expect.stringContaining("could be read by other users")]);
  });

  it("is never overwritten when it is damaged", async () => {
    await loadIdentity(hostOf());
    await writeFile(keyPath(), '{"public_key":"x"}');
    await expect(loadIdentity(hostOf())).rejects.toMatchObject({ code: "identity_unreadable" });
    expect(await readFile(keyPath(), "utf8")).toBe('{"public_key":"x"}');
  });

  it("is refused when its halves do not belong together", async () => {
    await loadIdentity(hostOf());
    const one = JSON.parse(await readFile(keyPath(), "utf8"));
    await rm(keyPath());
    await loadIdentity(hostOf());
    const other = JSON.parse(await readFile(keyPath(), "utf8"));
    await writeFile(keyPath(), JSON.stringify({ ...one, private_key: other.private_key }));
    await expect(loadIdentity(hostOf())).rejects.toMatchObject({ code: "identity_unreadable" });
  });
});

describe("what is kept of hubs", () => {
  it("is kept by hub, and survives writers at once", async () => {
    const records = createHubRecords(hostOf());
    const hubs = Array.from({ length: 8 }, (_, index) => `https://hub${index}.example`);
    await Promise.all(
      hubs.map((hub) => createHubRecords(hostOf()).put(hub, { key: hub, agentToken: "gfe_at_x" })),
    );
    for (const hub of hubs) expect(await records.get(hub)).toEqual({ key: hub, agentToken: "gfe_at_x" });
    await records.put(hubs[0]!, { agentToken: "gfe_at_y" });
    expect(await records.get(hubs[0]!)).toEqual({ key: hubs[0], agentToken: "gfe_at_y" });
    await records.forget(hubs[0]!);
    expect(await records.get(hubs[0]!)).toEqual({});
    expect(await modeOf(join(directory, "config", "gfe", "hubs.json"))).toBe(0o600);
  });

  it("is an error when it is damaged: starting anew would trust any hub", async () => {
    const records = createHubRecords(hostOf());
    await records.put("https://hub.example", { key: "k" });
    await writeFile(join(directory, "config", "gfe", "hubs.json"), "{");
    await expect(records.get("https://hub.example")).rejects.toMatchObject({ code: "identity_unreadable" });
  });
});
