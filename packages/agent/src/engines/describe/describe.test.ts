/** What is told of the models of each engine, from its recorded answers. */
import { afterEach, describe, expect, it } from "vitest";
import { createNodeHost } from "../../node-host.ts";
import { type Answer, createEngineServer, type EngineServer } from "../../testing/engine-server.ts";
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
  tabbyApiServer,
  vllmServer,
} from "../../testing/engines.ts";
import { detectEngines } from "../detect.ts";
import type { DiscoveredModel } from "../engine.ts";
import { quantisationOf } from "./known.ts";

const host = createNodeHost({ env: {} });
const servers: EngineServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function modelsOf(answers: Record<string, Answer>): Promise<DiscoveredModel[]> {
  const server = await createEngineServer(answers);
  servers.push(server);
  const [engine] = await detectEngines(host, { urls: [server.url], ports: [] });
  return engine!.models();
}

describe("the models", () => {
  it("of llama.cpp come with slots, context, quantisation and what the template can", async () => {
    expect(await modelsOf(llamaCppServer())).toEqual([
      {
        name: "Qwen3-8B-Q4_K_M",
        contextLength: 16384,
        quantisation: "Q4_K - Medium",
        parameters: "8.2B",
        slots: 4,
        capabilities: [
          ...["chat", "completion", "json_mode", "json_schema", "seed", "logprobs", "logit_bias"],
          ...["tools", "tool_choice", "parallel_tool_calls", "continuation"],
        ],
      },
    ]);
  });

  it("of llama.cpp's router are asked one by one without loading any; one that failed is left out", async () => {
    const models = await modelsOf(llamaCppRouter());
    expect(models).toMatchObject([
      { name: "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", contextLength: 8192, slots: 2 },
      { name: "ggml-org/Qwen3-8B-GGUF:Q8_0", contextLength: 4096, slots: 1 },
    ]);
    const asked = servers[0]!.requests.filter(({ url }) => url.includes("model="));
    expect(asked.map(({ url }) => url)).toEqual([
      "/props?model=ggml-org%2Fgemma-3-4b-it-GGUF%3AQ4_K_M&autoload=false",
      "/props?model=ggml-org%2FQwen3-8B-GGUF%3AQ8_0&autoload=false",
    ]);
  });

  it("of Ollama come with digest and quantisation, and one slot because it does not tell more", async () => {
    expect(await modelsOf(ollamaServer())).toMatchObject([
      {
        name: "qwen3:8b",
        digest: expect.stringMatching(/^sha256:baf6a787/),
        quantisation: "Q8_0",
        contextLength: 8192,
        slots: 1,
        slotsAssumed: expect.stringContaining("OLLAMA_NUM_PARALLEL"),
      },
    ]);
  });

  it("of vLLM come with its context, and slots that are said to be assumed", async () => {
    expect(await modelsOf(vllmServer())).toMatchObject([
      {
        name: "Qwen/Qwen3-8B-AWQ",
        contextLength: 32768,
        quantisation: "AWQ",
        slots: 16,
        slotsAssumed: expect.stringContaining("--max-num-seqs"),
      },
    ]);
  });

  it("of LM Studio are those that are loaded, with the context that was chosen and its parallel answers", async () => {
    expect(await modelsOf(lmStudioServer())).toEqual([
      {
        name: "qwen/qwen3-8b",
        contextLength: 8192,
        quantisation: "Q4_K_M",
        parameters: "8B",
        slots: 4,
        capabilities: ["chat", "completion", "json_schema", "seed", "logit_bias", "tools", "tool_choice"],
      },
    ]);
  });

  it("of an LM Studio before 0.4 are told by its older list", async () => {
    expect(await modelsOf(lmStudioBefore())).toMatchObject([
      { name: "qwen/qwen3-8b", contextLength: 8192, quantisation: "Q4_K_M", slots: 1 },
    ]);
  });

  it("of LocalAI are those of text and vectors, with context and capabilities", async () => {
    expect(await modelsOf(localAiServer())).toMatchObject([
      {
        name: "qwen3-8b-Q4_K_M",
        contextLength: 8192,
        quantisation: "Q4_K_M",
        capabilities: ["chat", "completion", "tools"],
        slots: 1,
        slotsAssumed: expect.stringContaining("LOCALAI_PARALLEL_REQUESTS"),
      },
      { name: "nomic-embed-text-v1.5", contextLength: 2048, capabilities: ["embedding"] },
    ]);
  });

  it("of a LocalAI that tells only names are taken to chat", async () => {
    expect(await modelsOf(localAiBefore())).toMatchObject([
      { name: "qwen3-8b-Q4_K_M", contextLength: 4096, capabilities: ["chat", "completion"] },
      { name: "nomic-embed-text-v1.5" },
      { name: "flux.1-dev" },
    ]);
  });

  it("of Jan are those that are loaded", async () => {
    expect(await modelsOf(janServer())).toEqual([
      {
        name: "Jan-v1-4B-Q4_K_M",
        contextLength: 4096,
        quantisation: "Q4_K_M",
        capabilities: ["chat", "completion"],
        slots: 1,
        slotsAssumed: expect.stringContaining("Jan"),
      },
    ]);
  });

  it("of KoboldCpp come without its prefix, with its true context, one answer at a time", async () => {
    expect(await modelsOf(koboldCppServer())).toEqual([
      {
        name: "Qwen3-8B-Q4_K_M",
        contextLength: 12288,
        quantisation: "Q4_K_M",
        capabilities: ["chat", "completion", "seed", "vision"],
        slots: 1,
        slotsAssumed: expect.stringContaining("one answer at a time"),
      },
    ]);
  });

  it("of TabbyAPI are the one that is loaded, with its batch as slots", async () => {
    expect(await modelsOf(tabbyApiServer())).toEqual([
      {
        name: "Qwen3-8B-exl3-4.0bpw",
        contextLength: 16384,
        quantisation: "4.0bpw",
        capabilities: ["chat", "completion", "json_schema", "seed"],
        slots: 8,
      },
    ]);
  });

  it("of a TabbyAPI with nothing loaded are none", async () => {
    const empty: Answer = (_request, response) =>
      void response.writeHead(503).end(JSON.stringify({ detail: "No models are currently loaded." }));
    expect(await modelsOf({ ...tabbyApiServer(), "/v1/model": empty })).toEqual([]);
  });

  it("of a server that wants a key are not told, and the cure is named", async () => {
    await expect(modelsOf(janLocked())).rejects.toThrow("GFE_ENGINE_KEY");
  });
});

it.each([
  ["Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"],
  ["qwen2.5-0.5b-instruct-q8_0", "Q8_0"],
  ["gemma-3-4b-it-IQ3_XXS", "IQ3_XXS"],
  ["Qwen3-30B-A3B-UD-Q4_K_XL", "UD-Q4_K_XL"],
  ["model-BF16", "BF16"],
  ["Llama-3.1-8B-exl2-6.5bpw", "6.5bpw"],
  ["llama3.2:1b", undefined],
])("the quantisation in %s is %s", (name, quantisation) => {
  expect(quantisationOf(name).quantisation).toBe(quantisation);
});
