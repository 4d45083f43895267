import { afterEach, describe, expect, it } from "vitest";
import { createNodeHost } from "../node-host.ts";
import { type Answer, createEngineServer, type EngineServer } from "../testing/engine-server.ts";
import {
  janLocked,
  janServer,
  koboldCppServer,
  llamaCppRouter,
  llamaCppServer,
  lmStudioBefore,
  lmStudioServer,
  localAiBefore,
  localAiServer,
  ollamaServer,
  tabbyApiLocked,
  tabbyApiServer,
  vllmServer,
} from "../testing/engines.ts";
import { detectEngines } from "./detect.ts";
import { identifyEngine } from "./identify.ts";

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

describe("an address is told by what it answers", () => {
  it.each<[string, () => Record<string, Answer>]>([
    ["ollama", ollamaServer],
    ["llama.cpp", llamaCppServer],
    ["llama.cpp", llamaCppRouter],
    ["vllm", vllmServer],
    ["lm-studio", lmStudioServer],
    ["lm-studio", lmStudioBefore],
    ["localai", localAiServer],
    ["localai", localAiBefore],
    ["jan", janServer],
    ["jan", janLocked],
    ["koboldcpp", koboldCppServer],
    ["tabbyapi", tabbyApiServer],
    ["tabbyapi", tabbyApiLocked],
    ["openai-compatible", () => ({ "/v1/models": { object: "list", data: [{ id: "m" }] } })],
    ["nothing", () => ({ "/": "<h1>It works!</h1>" })],
    ["nothing", () => ({ "/": '{"data": "but no list"}', "/v1/models": { data: "none" } })],
    // Whatever is asked is answered, and none of it is of an engine.
    ["nothing", () => ({ "*": "<h1>It works!</h1>" })],
    // Our own hub speaks both Ollama and OpenAI.
    [
      "hub",
      () => ({ ...ollamaServer(), "/readyz": "{}", "/api/v1/config": { version: "0.1.0", hub_key: "k" } }),
    ],
  ])("as %s (%o)", async (kind, answers) => {
    expect(await identifyEngine(host, (await serve(answers())).url)).toEqual({ kind, isSure: true });
  });

  it("as nothing, soon, where a connection is taken and never answered", async () => {
    const silent = await serve({ "*": () => {} });
    expect(await identifyEngine(host, silent.url)).toEqual({ kind: "nothing", isSure: false });
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
    expect(await identifyEngine(host, endless.url)).toEqual({ kind: "nothing", isSure: false });
  });
});

describe("detection", () => {
  it("finds all engines at once, and each in its own way when they sit on each other's ports", async () => {
    const recorded = {
      ollama: ollamaServer,
      "llama.cpp": llamaCppServer,
      vllm: vllmServer,
      "lm-studio": lmStudioServer,
      localai: localAiServer,
      jan: janServer,
      koboldcpp: koboldCppServer,
      tabbyapi: tabbyApiServer,
    };
    const kinds = Object.keys(recorded);
    const servers = await Promise.all(Object.values(recorded).map((answers) => serve(answers())));
    const ports = servers.map(({ url }) => Number(new URL(url).port));
    const found = async () => (await detectEngines(host, { ports })).map(({ kind }) => kind);
    expect(await found()).toEqual(kinds);
    // Each moves to its neighbour's port.
    const moved = [...kinds.slice(1), kinds[0]!];
    servers.forEach((server, index) => {
      server.answers = recorded[moved[index] as keyof typeof recorded]();
    });
    expect(await found()).toEqual(moved);
  });

  it("finds what is told and what OLLAMA_HOST says, each once, in order", async () => {
    const [first, second] = [await serve(vllmServer()), await serve(ollamaServer())];
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
    const hub = await serve({ ...ollamaServer(), "/api/v1/config": { hub_key: "k" } });
    expect(await detectEngines(host, { urls: [hub.url, "http://127.0.0.1:1"], ports: [] })).toEqual([]);
  });
});
