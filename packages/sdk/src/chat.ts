import { quoteSchema } from "@gfe/protocol";
import { z } from "zod";
import { SdkError } from "./errors.ts";
import { watchSilence } from "./silence.ts";
import { readEvents } from "./sse.ts";

/** The hub says something at least every 15 s; a longer silence than this means that nobody is there any more. */
const CHAT_SILENCE_MS = 60_000;

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface ChatDelta {
  content: string;
  reasoning: string;
}

export interface ChatRequest {
  model: string;
  messages: ChatMessage[];
  maxTokens?: number | undefined;
  temperature?: number | undefined;
  stop?: string[] | undefined;
  seed?: number | undefined;
  /** Ends the answer, and with it the work of the node. */
  signal?: AbortSignal | undefined;
  onDelta?: ((delta: ChatDelta) => void) | undefined;
}

/** The request in OpenAI's words. */
function chatBody({ model, messages, maxTokens, temperature, stop, seed }: ChatRequest) {
  return {
    model,
    messages,
    max_tokens: maxTokens,
    temperature,
    stop,
    seed,
    stream: true,
    stream_options: { include_usage: true },
  };
}

const gfeSchema = z.object({
  job_id: z.string(),
  node_id: z.string().nullable(),
  node_name: z.string().nullable(),
  cost_micro: z.string(),
  cost_credits: z.string(),
  quote: quoteSchema.optional(),
});
const deltaSchema = z.object({ content: z.string().nullish(), reasoning_content: z.string().nullish() });
const chunkSchema = z.object({
  error: z
    .object({ message: z.string(), code: z.string().nullish(), param: z.string().nullish() })
    .optional(),
  choices: z
    .array(z.object({ delta: deltaSchema.optional(), finish_reason: z.string().nullish() }))
    .optional(),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullish(),
  x_gfe: gfeSchema.optional(),
});
type Chunk = z.infer<typeof chunkSchema>;

export interface ChatAnswer {
  content: string;
  reasoning: string;
  finish_reason: string;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  /** What it cost and who answered. */
  x_gfe: z.infer<typeof gfeSchema> | null;
}

/**
 * Asks and gathers the streamed answer. Throws SdkError with the hub's code where it refuses or the stream says so,
 * `broken_stream` where that ends without having said why or without its last word, and the signal's reason where that
 * aborted.
 */
export async function streamChat(
  open: (body: object, signal: AbortSignal) => Promise<Response>,
  request: ChatRequest,
  silenceMs: number = CHAT_SILENCE_MS,
): Promise<ChatAnswer> {
  const { signal, onDelta } = request;
  const connection = new AbortController();
  const silence = watchSilence(silenceMs, () => connection.abort());
  const answer: ChatAnswer = { content: "", reasoning: "", finish_reason: "", usage: null, x_gfe: null };
  let over = false;
  try {
    const either = signal ? AbortSignal.any([signal, connection.signal]) : connection.signal;
    const response = await open(chatBody(request), either);
    for await (const { data } of readEvents(response.body!, silence.heard)) {
      over = data === "[DONE]";
      if (over) break;
      take(answer, chunkSchema.parse(JSON.parse(data)), onDelta);
    }
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    if (cause instanceof SdkError) throw cause;
    const why = connection.signal.aborted ? "The hub went silent" : "The connection broke";
    throw new SdkError("broken_stream", `${why} before the answer's end`, { cause });
  } finally {
    silence.stop();
  }
  if (!over || answer.finish_reason === "")
    throw new SdkError("broken_stream", "The answer broke off before its end");
  return answer;
}

function take(answer: ChatAnswer, chunk: Chunk, onDelta: ChatRequest["onDelta"]): void {
  if (chunk.error) {
    const { code, message, param } = chunk.error;
    throw new SdkError(code ?? "engine_failed", message, { param: param ?? undefined });
  }
  const choice = chunk.choices?.[0];
  const delta = {
    content: choice?.delta?.content ?? "",
    reasoning: choice?.delta?.reasoning_content ?? "",
  };
  if (delta.content !== "" || delta.reasoning !== "") {
    answer.content += delta.content;
    answer.reasoning += delta.reasoning;
    onDelta?.(delta);
  }
  answer.finish_reason = choice?.finish_reason ?? answer.finish_reason;
  answer.usage = chunk.usage ?? answer.usage;
  answer.x_gfe = chunk.x_gfe ?? answer.x_gfe;
}
