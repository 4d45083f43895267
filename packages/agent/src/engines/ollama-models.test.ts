import { describe, expect, it } from "vitest";
import { ollama, show, shows, tag } from "../testing/ollama.ts";
import { EngineGone } from "./engine.ts";

describe("Ollama's models", () => {
  it("come with digest, quantisation, size, context and capabilities", async () => {
    const { engine } = await ollama({});
    expect(await engine.models()).toEqual([
      {
        name: "llama3.2:1b",
        digest: "sha256:baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878",
        quantisation: "Q8_0",
        parameters: "1.2B",
        contextLength: 8192,
        capabilities: [
          "chat",
          "completion",
          "json_mode",
          "json_schema",
          "seed",
          "logprobs",
          "tools",
          "continuation",
        ],
        slots: 1,
        slotsAssumed: expect.stringContaining("OLLAMA_NUM_PARALLEL"),
      },
    ]);
  });

  it("never include one that runs in somebody's cloud", async () => {
    const { engine } = await ollama({
      "/api/tags": {
        models: [
          tag("gpt-oss:120b-cloud", { remote_model: "gpt-oss:120b", remote_host: "https://ollama.com:443" }),
          tag("renamed", { remote_model: "deepseek-v3.1:671b" }),
          tag("hosted", { remote_host: "https://ollama.com:443" }),
          tag("kimi:cloud"),
          tag("hidden"),
          tag("local"),
        ],
      },
      "/api/show": shows({
        hidden: show({ remote_model: "qwen3-coder:480b", remote_host: "https://ollama.com" }),
        local: show(),
        "kimi:cloud": show(),
        renamed: show(),
      }),
    });
    expect((await engine.models()).map(({ name }) => name)).toEqual(["local"]);
  });

  it("are not spoilt by an odd entry, nor asked for twice", async () => {
    const { engine, server: asked } = await ollama({
      "/api/tags": { models: [null, { name: 7 }, tag("llama3.2:1b"), tag("vanished")] },
    });
    await engine.models();
    expect(await engine.models()).toHaveLength(1);
    const shown = asked.requests.filter(
      ({ path, body }) => path === "/api/show" && body.model === "llama3.2:1b",
    );
    expect(shown).toHaveLength(1);
  });

  it("take the window that the model file asks for, and never more than the model has", async () => {
    const { engine } = await ollama({
      "/api/tags": { models: [tag("wide"), tag("small")] },
      "/api/show": shows({
        wide: show({ parameters: "num_ctx                        32768" }),
        small: show({ model_info: { "bert.context_length": 512 }, capabilities: ["embedding"] }),
      }),
    });
    const [wide, small] = await engine.models();
    expect(wide!.contextLength).toBe(32768);
    expect(small).toMatchObject({ contextLength: 512, capabilities: ["embedding"] });
  });

  it("have no log-probabilities before 0.12.11", async () => {
    const { engine } = await ollama({ "/api/version": { version: "0.12.9" } });
    expect((await engine.models())[0]!.capabilities).not.toContain("logprobs");
  });

  it("are gone when nothing listens", async () => {
    const { engine, server: asked } = await ollama({});
    await asked.close();
    await expect(engine.models()).rejects.toBeInstanceOf(EngineGone);
  });
});
