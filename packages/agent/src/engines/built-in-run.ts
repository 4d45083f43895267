/** One attempt on the built-in engine. Counts are exact: the sequence meters every token, also of an aborted attempt. */
import type { FinishReason } from "@gfe/protocol";
import type { ChatHistoryItem, ChatWrapper, LlamaContextSequence, LlamaGrammar, Token } from "node-llama-cpp";
import type { BuiltInModel } from "./built-in-model.ts";
import { speakByToken } from "./built-in-tokens.ts";
import { type EngineAttempt, type EngineOutcome, type EngineSink, encodeVector, failed } from "./engine.ts";
import {
  type ChatRequest,
  type CompletionRequest,
  chatRequestSchema,
  completionRequestSchema,
  embeddingsRequestSchema,
  imagesOf,
  stopsOf,
  textOf,
} from "./requests.ts";
import { TextStops } from "./text-stops.ts";

/** What llama.cpp's own server takes where a request names none. */
const SAMPLING = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 } as const;
const OUTPUT_TOKENS_DEFAULT = 1024;
/** Tokens that it takes to know whether the next begins with a space. */
const DETOKENISE_BACK = 4;
/** Tokens back that the penalties look. */
const PENALTY_WINDOW = 64;

export async function runBuiltIn(
  model: BuiltInModel,
  attempt: EngineAttempt,
  sink: EngineSink,
  signal: AbortSignal,
): Promise<EngineOutcome> {
  const schema = {
    chat: chatRequestSchema,
    completion: completionRequestSchema,
    embedding: embeddingsRequestSchema,
  }[attempt.kind];
  const parsed = schema.safeParse(attempt.body);
  if (!parsed.success) return failed("engine_refused", parsed.error.issues[0]?.message ?? "malformed body");
  if ("input" in parsed.data) return embed(model, parsed.data.input, sink, signal);
  const request = parsed.data;
  const refused = unsupported(request);
  if (refused) return refused;
  const asked = promptOf(model, request);
  const said = attempt.prefix ? tokensSaid(model, asked, attempt.prefix) : [];
  const prompt = [...asked, ...said];
  const inputTokens = prompt.length;
  const room = model.contextSize - inputTokens - 1;
  if (room < 1)
    return failed(
      "context_length_exceeded",
      `the prompt has ${inputTokens} tokens, the context holds ${model.contextSize}`,
    );
  const sequence = await model.acquire(signal);
  const before = sequence.tokenMeter.getState();
  try {
    signal.throwIfAborted();
    const maxTokens = Math.min((request.max_tokens ?? OUTPUT_TOKENS_DEFAULT) - said.length, room);
    const behindTokens = "prompt" in request ? inputTokens : said.length;
    const going = { prompt, behindTokens, saidTokens: said.length, maxTokens };
    const finish = maxTokens < 1 ? "length" : await generate(model, sequence, request, going, sink, signal);
    const used = sequence.tokenMeter.diff(before);
    return {
      type: "done",
      finish: [finish],
      usage: {
        inputTokens,
        outputTokens: used.usedOutputTokens,
        // The last token of a prompt is always computed, and metered with the first one it yields.
        cachedInputTokens: Math.max(0, inputTokens - used.usedInputTokens - 1),
      },
    };
  } catch (error) {
    const used = sequence.tokenMeter.diff(before);
    const usage = { inputTokens, outputTokens: used.usedOutputTokens };
    const message = error instanceof Error ? error.message : "the model failed";
    return failed(signal.aborted ? "cancelled" : "engine_error", message, usage);
  } finally {
    model.release(sequence);
  }
}

function unsupported(request: ChatRequest | CompletionRequest): EngineOutcome | null {
  const no = (what: string) => failed("unsupported", `${what}: the built-in engine has none`);
  if ((request.n ?? 1) > 1) return no("n");
  if (request.logit_bias) return no("logit_bias");
  if (!("messages" in request)) return null;
  if (request.tools?.length && request.tool_choice !== "none") return no("tools");
  if (request.messages.some(({ content }) => imagesOf(content).length > 0)) return no("messages");
  return null;
}

interface Going {
  prompt: Token[];
  /** Of the prompt's tokens, the last so many are text that the answer goes on from. */
  behindTokens: number;
  /** Of these, the last so many are of the answer itself. */
  saidTokens: number;
  maxTokens: number;
}

async function generate(
  built: BuiltInModel,
  sequence: LlamaContextSequence,
  request: ChatRequest | CompletionRequest,
  going: Going,
  sink: EngineSink,
  signal: AbortSignal,
): Promise<FinishReason> {
  const { library, llama, model, chatWrapper } = built;
  const { maxTokens } = going;
  const isChat = "messages" in request;
  const grammar = isChat ? await grammarOf(library, llama, request.response_format) : null;
  if (!isChat || going.behindTokens > 0 || request.logprobs) {
    const { repeatPenalty: penalty, ...sampling } = samplingOf(request);
    const grammarEvaluationState = grammar && new library.LlamaGrammarEvaluationState({ model, grammar });
    const run = {
      prompt: going.prompt,
      behindTokens: going.behindTokens,
      stops: [...stopsOf(request.stop), ...(isChat ? triggersOf(chatWrapper, request) : [])],
      maxTokens,
      retraceTokens: sampling.temperature === 0 ? going.saidTokens : 0,
      top: isChat && request.logprobs ? (request.top_logprobs ?? 0) : null,
      penalty,
      sampling: { ...sampling, ...(grammarEvaluationState ? { grammarEvaluationState } : {}) },
    };
    return speakByToken(built, sequence, run, sink, signal);
  }
  const stopped = new AbortController();
  const stops = new TextStops(stopsOf(request.stop), (text) => sink.text(text));
  const say = (text: string) => {
    if (stops.push(text)) stopped.abort();
  };
  const end = (stopReason: string): FinishReason => {
    signal.throwIfAborted();
    stops.end();
    return stopReason === "maxTokens" && !stopped.signal.aborted ? "length" : "stop";
  };
  const options = {
    ...samplingOf(request),
    maxTokens,
    signal: AbortSignal.any([signal, stopped.signal]),
    stopOnAbortSignal: true,
  };
  const chat = new library.LlamaChat({ contextSequence: sequence, chatWrapper, autoDisposeSequence: false });
  const { metadata } = await chat
    .generateResponse(historyOf(request), {
      ...options,
      ...(grammar ? { grammar } : {}),
      onResponseChunk({ type, text }) {
        if (text === "") return;
        if (type === "segment") sink.reasoning(text);
        else say(text);
      },
    })
    .finally(() => chat.dispose({ disposeSequence: false }));
  return end(metadata.stopReason);
}

/** Texts at which the model's template ends an answer; a trigger that is a special token ends it by itself. */
function triggersOf(chatWrapper: ChatWrapper, request: ChatRequest): string[] {
  const { stopGenerationTriggers } = chatWrapper.generateContextState({
    chatHistory: historyOf(request),
  });
  return stopGenerationTriggers.flatMap(({ values: [only, ...more] }) =>
    typeof only === "string" && more.length === 0 ? only : [],
  );
}

type Library = BuiltInModel["library"];

async function grammarOf(
  { LlamaGrammar }: Library,
  llama: BuiltInModel["llama"],
  format: ChatRequest["response_format"],
): Promise<LlamaGrammar | null> {
  if (!format || format.type === "text") return null;
  const schema = format.type === "json_schema" ? format.json_schema.schema : undefined;
  if (!schema) return LlamaGrammar.getFor(llama, "json");
  return llama.createGrammarForJsonSchema(schema as Parameters<typeof llama.createGrammarForJsonSchema>[0]);
}

function samplingOf(request: ChatRequest | CompletionRequest) {
  const temperature = request.temperature ?? SAMPLING.temperature;
  const penalised =
    request.repeat_penalty !== undefined ||
    request.presence_penalty !== undefined ||
    request.frequency_penalty !== undefined;
  return {
    temperature,
    topK: request.top_k ?? SAMPLING.topK,
    topP: request.top_p ?? SAMPLING.topP,
    minP: request.min_p ?? SAMPLING.minP,
    ...(request.seed === undefined ? {} : { seed: request.seed >>> 0 }),
    repeatPenalty: penalised
      ? {
          lastTokens: PENALTY_WINDOW,
          penalty: request.repeat_penalty ?? 1,
          presencePenalty: request.presence_penalty ?? 0,
          frequencyPenalty: request.frequency_penalty ?? 0,
        }
      : (false as const),
  };
}

/** The last item is the answer that is to be written. */
function historyOf({ messages }: ChatRequest): ChatHistoryItem[] {
  const history: ChatHistoryItem[] = messages.map(({ role, content }) => {
    const text = textOf(content);
    if (role === "assistant") return { type: "model", response: [text] };
    return { type: role === "user" || role === "tool" ? "user" : "system", text };
  });
  return [...history, { type: "model", response: [] }];
}

function promptOf({ model, chatWrapper }: BuiltInModel, request: ChatRequest | CompletionRequest): Token[] {
  if ("messages" in request) {
    const { contextText } = chatWrapper.generateContextState({ chatHistory: historyOf(request) });
    return contextText.tokenize(model.tokenizer);
  }
  // As node-llama-cpp puts a completion together: behind its first token a text has no leading space of its own.
  const { bos, shouldPrependBosToken } = model.tokens;
  return shouldPrependBosToken && bos !== null
    ? [bos, ...model.tokenize(request.prompt, false, "trimLeadingSpace")]
    : model.tokenize(request.prompt);
}

/**
 * The tokens that another node said. Its pieces mostly are tokens: a model may have put a text together otherwise than a
 * tokeniser would, and would then go on otherwise.
 */
function tokensSaid(
  { model }: BuiltInModel,
  asked: readonly Token[],
  { pieces }: NonNullable<EngineAttempt["prefix"]>,
): Token[] {
  const said: Token[] = [];
  for (const piece of pieces) {
    const tokens = model.tokenize(piece, false, "trimLeadingSpace");
    const before = (said.length > 0 ? said : asked).slice(-DETOKENISE_BACK);
    const says = (some: readonly Token[]) => model.detokenize(some, false, before) === piece;
    // Some tokenisers put a space of their own before what they are given.
    const found = [tokens, tokens.slice(1)].find(says);
    if (!found) return [...model.tokenize(pieces.join(""), false, "trimLeadingSpace")];
    said.push(...found);
  }
  return said;
}

async function embed(
  model: BuiltInModel,
  inputs: readonly string[],
  sink: EngineSink,
  signal: AbortSignal,
): Promise<EngineOutcome> {
  const context = await model.embeddingContext();
  let inputTokens = 0;
  for (const input of inputs) {
    signal.throwIfAborted();
    const tokens = model.model.tokenize(input);
    if (tokens.length >= model.contextSize)
      return failed(
        "context_length_exceeded",
        `an input has ${tokens.length} tokens, the context holds ${model.contextSize}`,
      );
    inputTokens += tokens.length;
    const { vector } = await context.getEmbeddingFor(tokens);
    sink.embeddings([encodeVector(vector)]);
  }
  return { type: "done", finish: [], usage: { inputTokens, outputTokens: 0 } };
}
