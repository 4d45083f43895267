import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Agent, createMemoryFiles, createNodeHost, createScriptedEngine, startAgent } from "@gfe/agent";
import { type Hub, parseConfig, startHub } from "@gfe/hub";
import { createTestDatabase } from "@gfe/hub/testing";
import { createClient } from "@gfe/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gfe } from "../testing/gfe.ts";
import { priceOf } from "./price.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let hub: Hub;
let agent: Agent;
const dataDir = mkdtempSync(join(tmpdir(), "gfe-price-"));
let env: Record<string, string>;

beforeAll(async () => {
  database = await createTestDatabase();
  const parsed = parseConfig({
    PORT: "0",
    DATABASE_URL: database.url,
    GFE_DATA_DIR: dataDir,
    GFE_LOG_LEVEL: "silent",
    GFE_DRAIN_MS: "500",
    GFE_CANARY_INTERVAL: "0",
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  hub = await startHub(parsed.config);
  const { key, token } = await provider();
  env = { GFE_API_KEY: key, GFE_HUB: hub.url };
  const host = createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });
  const engines = [createScriptedEngine(host, { models: [{ name: "story" }, { name: "poem" }] })];
  agent = await startAgent({ host, hubUrl: hub.url, token, engines, gpus: [], name: "attic" });
});
afterAll(async () => {
  await agent?.stop();
  await hub?.stop();
  await database?.drop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function provider(): Promise<{ key: string; token: string }> {
  const signUp = await fetch(`${hub.url}/api/auth/sign-up/email`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: hub.url },
    body: JSON.stringify({ name: "p", email: "p@example.test", password: "correct horse battery" }),
  });
  const client = createClient({
    baseUrl: hub.url,
    apiKey: signUp.headers.get("set-auth-token") ?? "",
  });
  const { secret: key } = await client.createKey({ label: "k", scopes: ["manage"] });
  const { secret: token } = await client.createAgentToken("t");
  return { key, token };
}

const price = (...args: string[]) => gfe(["price", ...args], env);
const listed = () => createClient({ baseUrl: hub.url, apiKey: env.GFE_API_KEY! }).prices();

describe("gfe price", () => {
  test("sets a price in credits a million tokens, lists it beside the median, and unsets it", async () => {
    expect(await price("set", "--model", "story", "--input", "0.2", "--output", "0.6")).toEqual({
      code: 0,
      stdout: "story: 0.2 a million in, 0.6 a million out. In force from the next quote on.\n",
      stderr: "",
    });
    const { code, stdout } = await price();
    expect(code).toBe(0);
    expect(stdout).toMatch(/story.*attic.*0\.2 a million in, 0\.6 a million out.*you, for the model.*–/);
    expect(stdout).toMatch(/poem.*attic.*1 a request.*the agent/);
    expect(await price("unset", "--model", "story")).toEqual({
      code: 0,
      stdout: "Unset the price of story.\n",
      stderr: "",
    });
    expect((await listed()).prices).toEqual([]);
  });

  test("sets one for a node by its name, and says it as JSON", async () => {
    const { code, stdout, stderr } = await price("set", "--node", "attic", "--minimum", "0.01", "--json");
    expect([code, stderr]).toEqual([0, ""]);
    const asked = { per_request: "0", minimum: "10000" };
    expect(JSON.parse(stdout)).toMatchObject({ node_id: expect.stringMatching(/^node_/), price: asked });
    expect((await listed()).models).toMatchObject([
      { node_name: "attic", price: asked, source: "node" },
      { node_name: "attic", price: asked, source: "node" },
    ]);
  });

  test.concurrent.each<[string[], RegExp]>([
    [["set", "--input", "cheap"], /--input: "cheap" is not a price/],
    [["set", "--node", "nowhere", "--input", "1"], /you have no such node/],
    [["unset", "--model", "story"], /You have set no such price/],
  ])("%j is refused in one line", async (args, words) => {
    const { code, stdout, stderr } = await price(...args);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(words);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test.concurrent("asks for a key, and says which scope that needs", async () => {
    const { code, stderr } = await gfe(["price"], { GFE_HUB: hub.url });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/scope manage.*GFE_API_KEY/)]);
  });
});

describe("the options of a price", () => {
  test("name every part", () => {
    const amounts = {
      request: "0",
      input: "2",
      cached: "0.5",
      output: "8",
      minimum: "0.01",
      batchDiscount: "50",
    };
    expect(priceOf(amounts)).toEqual({
      per_request: "0",
      per_million_input: "2000000",
      per_million_cached_input: "500000",
      per_million_output: "8000000",
      minimum: "10000",
      batch_discount: 50,
    });
  });

  test.each<[Parameters<typeof priceOf>[0], RegExp]>([
    [{}, /needs at least one of --request, --input/],
    [{ input: "1,out=2" }, /--input: "1,out=2" is more than one amount/],
    [{ input: "-1" }, /--input: "-1" is not a price/],
    [{ output: "" }, /--output: "" is not a price/],
    [{ input: "0.1", cached: "0.2" }, /--cached: cached input must not cost more/],
    [{ cached: "much" }, /--cached: "much" is not a price/],
    [{ batchDiscount: "91" }, /--batch-discount: "91" is not a discount/],
  ])("%j are refused by name", (amounts, words) => {
    expect(() => priceOf(amounts)).toThrow(words);
  });
});
