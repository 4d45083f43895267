/**
 * What is wrong with an engine, told by what it answers. Only what an engine says of itself is read: the text of a refused
 * request (400, 422) may quote its consumer, who must not be able to talk a node's offer away.
 */
import type { EngineOutcome } from "./engine.ts";

export type FaultCode =
  | "out_of_memory"
  | "crashed"
  | "hung"
  | "model_unavailable"
  | "unreachable"
  | "failing";

export interface Fault {
  code: FaultCode;
  /** What the engine said, or what was seen of it. */
  message: string;
}

/** What an attempt shows of its engine and model. A hard fault withdraws the offer at once, a soft one may be the request's. */
export type Verdict =
  | { type: "worked" }
  | { type: "fault"; fault: Fault; isHard: boolean }
  | { type: "nothing" };

/** For people: what it means and what to do. */
export const FAULT_WORDS: Readonly<Record<FaultCode, string>> = {
  out_of_memory:
    "the engine has too little memory for it: close what else uses the GPU, or take a smaller model or context",
  crashed: "the engine crashed: its own log tells why",
  hung: "the engine took a request and said nothing: restart it if that goes on",
  model_unavailable: "the engine does not have the model any more, or can't load it",
  unreachable: "nothing answers at the engine's address: start the engine",
  failing: "the engine failed several requests in a row: its own log tells why",
};

/** Ollama, llama.cpp, CUDA, HIP, Vulkan, Metal, PyTorch (vLLM, TabbyAPI), LM Studio, node-llama-cpp, the C++ library. */
const OUT_OF_MEMORY =
  /out of (system |device |host |gpu |video )?memory|out_?of_?(device_?|host_?)?memory|requires more (system|gpu) memory|(failed|unable) to allocate|malloc failed|bad_alloc|(not enough|insufficient) (\w+ )?(memory|vram|system resources)|no available memory for the cache|larger than the (maximum number of tokens|available) .*kv cache|kv cache .*(not enough|too small)|insufficientmemory/i;

/** Ollama, llama.cpp and its router, vLLM, LM Studio, Jan, TabbyAPI, LocalAI. */
const MODEL_UNAVAILABLE =
  /model\b.{0,300}(not found|does not exist|not loaded|is not available|is unloaded)|no models? (is |are )?(currently )?loaded|no running (session|model)|model_not_found|(failed|unable|could not|error)\b.{0,20}\bload(ing)?\b.{0,20}\bmodel|loading model|model is loading/is;

/** Ollama's and llama.cpp's runners, vLLM's core, LocalAI's back-ends over gRPC, and connections that break. */
const CRASHED =
  /(runner|server|model) process (has terminated|has exited|no longer running|exited|died)|enginedead|enginecore (encountered|failed)|engine (is dead|process failed|loop has died)|model has crashed|has crashed|signal: \w+|exit(ed)? (status|code)|segmentation fault|core dumped|ggml_assert|code = unavailable|error reading from server|connection (was )?(reset|refused|closed|forcibly)|econnreset|epipe|socket hang up|unexpected eof|other side closed|terminated/i;

/** The fault that an answer of this status tells of; none where it may be the request's. */
export function faultOf(status: number, message: string, code?: unknown): FaultCode | undefined {
  if (code === "model_not_found") return "model_unavailable";
  if (status < 500 && status !== 404) return undefined;
  if (OUT_OF_MEMORY.test(message)) return "out_of_memory";
  if (status === 404 || MODEL_UNAVAILABLE.test(message)) return "model_unavailable";
  if (CRASHED.test(message)) return "crashed";
  return undefined;
}

/** What one attempt's end says of the engine and model that ran it. `isGone`: nothing listened at its address. */
export function verdictOf(outcome: EngineOutcome, isGone: boolean): Verdict {
  if (outcome.type === "done") return { type: "worked" };
  const { code, message, fault } = outcome;
  const hard = (of: FaultCode): Verdict => ({ type: "fault", fault: { code: of, message }, isHard: true });
  if (isGone) return hard("unreachable");
  if (fault) return hard(fault);
  if (code === "engine_error") return { type: "fault", fault: { code: "failing", message }, isHard: false };
  return { type: "nothing" };
}
