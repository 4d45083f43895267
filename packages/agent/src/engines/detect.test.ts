import { afterEach, describe, expect, it } from "vitest";
import { createNodeHost } from "../node-host.ts";
import { type Answer, createEngineServer, type EngineServer } from "../testing/engine-server.ts";
import { detectEngines, identifyEngine } from "./detect.ts";

const host = createNodeHost({ env: {} });
const servers: EngineServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
async function serve(answers: Record<string, Answer>): Promise<EngineServer> {
  const server = await createEngineServer(answers);
  servers.push(server);
  return server;
}

const list = (ownedBy: string) => ({
  object: "list",
  data: [{ id: "m", object: "model", owned_by: ownedBy }],
});
const ollama = { "/": "Ollama is running", "/api/tags": { models: [] }, "/v1/models": list("library") };

describe("an address is told by what it answers", () => {
  it.each<[string, Record<string, Answer>]>([
    ["ollama", ollama],
    ["llama.cpp", { "/": "<html>", "/props": { build_info: "b6700-x" }, "/v1/models": list("llamacpp") }],
    ["vllm", { "/v1/models": list("vllm"), "/version": { version: "0.11.0" } }],
    [
      "lm-studio",
      { "/v1/models": list("organization_owner"), "/api/v1/models": { models: [{ key: "m", type: "llm" }] } },
    ],
    ["openai-compatible", { "/readyz": "OK", "/v1/models": list("x"), "/props": { build_info: "y" } }],
    [
      "openai-compatible",
      { "/api/extra/version": { result: "KoboldCpp", version: "1.100" }, "/v1/models": list("koboldcpp") },
    ],
    ["openai-compatible", { "/v1/models": list("someone") }],
    ["nothing", { "/": "<h1>It works!</h1>" }],
    ["nothing", { "/": '{"data": "but no list"}', "/v1/models": { data: "none" } }],
    // Our own hub speaks both Ollama and OpenAI.
    ["hub", { ...ollama, "/readyz": "{}", "/api/v1/config": { version: "0.1.0", hub_key: "k" } }],
  ])("as %s", async (kind, answers) => {
    expect(await identifyEngine(host, (await serve(answers)).url)).toBe(kind);
  });

  it("as nothing, soon, where a connection is taken and never answered", async () => {
    const silent = await serve(
      Object.fromEntries(["/", "/api/v1/config", "/readyz", "/v1/models"].map((path) => [path, () => {}])),
    );
    expect(await identifyEngine(host, silent.url)).toBe("nothing");
  });

  it("as nothing, where an answer never ends", async () => {
    const endless = await serve({
      "/v1/models": (_request, response) => {
        const more = () => {
          while (!response.destroyed && response.write(" ".repeat(65536)));
          if (!response.destroyed) response.once("drain", more);
        };
        more();
      },
    });
    expect(await identifyEngine(host, endless.url)).toBe("nothing");
  });
});

describe("detection", () => {
  it("finds what is told and what OLLAMA_HOST says, each once, in order", async () => {
    const [first, second] = [await serve({ "/v1/models": list("vllm") }), await serve(ollama)];
    const told = { ...host, env: { OLLAMA_HOST: second.url.replace("http://", "") } };
    const engines = await detectEngines(told, {
      urls: [`${first.url}/v1/`, first.url.replace("127.0.0.1", "localhost"), "http://user:pw@127.0.0.1:1"],
      ports: [Number(new URL(second.url).port)],
    });
    expect(engines.map(({ kind, label }) => [kind, label])).toEqual([
      ["vllm", first.url],
      ["ollama", second.url],
    ]);
  });

  it("takes no hub for an engine, and finds nothing where nothing is", async () => {
    const hub = await serve({ ...ollama, "/api/v1/config": { hub_key: "k" } });
    expect(await detectEngines(host, { urls: [hub.url, "http://127.0.0.1:1"], ports: [] })).toEqual([]);
  });
});
