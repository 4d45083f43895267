/** Ollama on its native API, which tells what its OpenAI one does not: digests, capabilities, exact counts. */

import { z } from "zod";
import {
  type DiscoveredModel,
  type Engine,
  type EngineAttempt,
  EngineGone,
  type EngineOutcome,
  type EngineSink,
  failed,
} from "./engine.ts";
import type { EngineHost } from "./engine-http.ts";
import { inquire, isOutcome, post, readStream, refusal } from "./engine-http.ts";
import { createOllamaCatalogue } from "./ollama-models.ts";
import { type OllamaCall, ollamaCall, ollamaEmbedCall } from "./ollama-request.ts";
import { createOllamaReader, readOllamaEmbeddings } from "./ollama-stream.ts";

export const OLLAMA_PORT = 11434;
const ASSUMED = "Ollama does not tell OLLAMA_NUM_PARALLEL, which is 1 unless it is set";

export interface OllamaOptions {
  host: EngineHost;
  /** `http://127.0.0.1:11434` */
  baseUrl: string;
  /** Attempts at once with one model: OLLAMA_NUM_PARALLEL of the server; 1 is its default. */
  slots?: number;
  /** Context that is asked of Ollama for every attempt; a model's own limit may be lower. */
  contextLengthMax?: number;
}

/** 8k tokens: what a card with 8 GB holds beside a 7B model. */
export const OLLAMA_CONTEXT_DEFAULT = 8192;

const loadedSchema = z.object({ models: z.array(z.object({ name: z.string() })) });

export function createOllamaEngine(options: OllamaOptions): Engine {
  const { host, baseUrl, slots, contextLengthMax = OLLAMA_CONTEXT_DEFAULT } = options;
  const address = { baseUrl };
  const catalogue = createOllamaCatalogue(host, address, {
    contextLengthMax,
    ...(slots === undefined ? { slots: 1, slotsAssumed: ASSUMED } : { slots }),
  });
  /** As offered: what is sent as `num_ctx`, the same for every attempt, for another value reloads the model. */
  let offered = new Map<string, DiscoveredModel>();

  async function run(attempt: EngineAttempt, sink: EngineSink, signal: AbortSignal): Promise<EngineOutcome> {
    const model = offered.get(attempt.model);
    if (!model) return failed("engine_error", `${attempt.model} is not offered any more`);
    const call: OllamaCall | EngineOutcome =
      attempt.kind === "embedding" ? ollamaEmbedCall(attempt, model) : ollamaCall(attempt, model);
    if ("type" in call) return call;
    const response = await post({
      host,
      address,
      path: call.path,
      body: call.body,
      signal,
      traceparent: attempt.traceparent,
    });
    if (isOutcome(response)) return response;
    if (attempt.kind === "embedding") return readOllamaEmbeddings(response, sink, call.inputs);
    const reader = createOllamaReader(sink);
    return readStream(host, response, { signal, ready: () => sink.ready() }, reader);
  }

  return {
    kind: "ollama",
    label: baseUrl,
    async models(signal) {
      const found = await catalogue(signal);
      offered = new Map(found.map((model) => [model.name, model]));
      return found;
    },
    async run(attempt, sink, signal) {
      try {
        return await run(attempt, sink, signal);
      } catch (error) {
        if (signal.aborted || error instanceof EngineGone) throw error;
        return refusal(502, error instanceof Error ? error.message : "Ollama broke off");
      }
    },
    /** Ollama keeps a model for minutes after its last answer, unless it is told not to. */
    async unload() {
      const { models = [] } = loadedSchema.safeParse(await inquire(host, address, "/api/ps")).data ?? {};
      const ours = models.filter(({ name }) => offered.has(name));
      await Promise.all(
        ours.map(({ name: model }) =>
          inquire(host, address, "/api/generate", { body: { model, keep_alive: 0 } }),
        ),
      );
    },
  };
}
