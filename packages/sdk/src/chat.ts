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
export function chatBody({ model, messages, maxTokens, temperature, stop, seed }: ChatRequest) {
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
 * Gathers a streamed chat. Throws SdkError with the hub's code where the stream says so, `broken_stream` where it ends
 * without having said why or without its last word, and the signal's reason where that aborted.
 */
export async function readChat(
  body: ReadableStream<Uint8Array>,
  { onDelta, signal }: Pick<ChatRequest, "onDelta" | "signal">,
  silenceMs: number = CHAT_SILENCE_MS,
): Promise<ChatAnswer> {
  const answer: ChatAnswer = { content: "", reasoning: "", finish_reason: "", usage: null, x_gfe: null };
  let over = false;
  try {
    for await (const { data } of readEvents(unlessSilent(body, silenceMs))) {
      over = data === "[DONE]";
      if (over) break;
      take(answer, chunkSchema.parse(JSON.parse(data)), onDelta);
    }
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    if (cause instanceof SdkError) throw cause;
    throw new SdkError("broken_stream", "The connection broke before the answer's end", { cause });
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

/** The same bytes, but an error after a silence. */
function unlessSilent(body: ReadableStream<Uint8Array>, silenceMs: number): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let silence: ReturnType<typeof watchSilence>;
  return new ReadableStream({
    start(controller) {
      silence = watchSilence(silenceMs, () => {
        silence.stop();
        controller.error(new SdkError("broken_stream", "The hub went silent before the answer's end"));
        void reader.cancel().catch(() => {});
      });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        silence.heard();
        if (!done) return controller.enqueue(value);
        silence.stop();
        controller.close();
      } catch (error) {
        silence.stop();
        controller.error(error);
      }
    },
    async cancel(reason) {
      silence.stop();
      await reader.cancel(reason);
    },
  });
}
