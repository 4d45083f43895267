import { z } from "zod";
import { SdkError } from "./errors.ts";
import { readEvents } from "./sse.ts";

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
  maxTokens?: number;
  temperature?: number;
  signal?: AbortSignal;
  onDelta?(delta: ChatDelta): void;
}

const gfeSchema = z.object({
  job_id: z.string(),
  node_id: z.string().nullable(),
  node_name: z.string().nullable(),
  cost_micro: z.string(),
  cost_credits: z.string(),
});

const chunkSchema = z.object({
  error: z.object({ message: z.string(), code: z.string().nullish() }).optional(),
  choices: z
    .array(
      z.object({
        delta: z
          .object({ content: z.string().nullish(), reasoning_content: z.string().nullish() })
          .optional(),
        finish_reason: z.string().nullish(),
      }),
    )
    .optional(),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullish(),
  x_gfe: gfeSchema.optional(),
});

export interface ChatAnswer {
  content: string;
  reasoning: string;
  finish_reason: string;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  /** What it cost and who answered. */
  x_gfe: z.infer<typeof gfeSchema> | null;
}

/** Gathers a streamed chat. Throws SdkError where the stream says so, or ends without having said why. */
export async function readChat(
  body: ReadableStream<Uint8Array>,
  onDelta: ChatRequest["onDelta"],
): Promise<ChatAnswer> {
  const answer: ChatAnswer = { content: "", reasoning: "", finish_reason: "", usage: null, x_gfe: null };
  for await (const { data } of readEvents(body)) {
    if (data === "[DONE]") break;
    const chunk = chunkSchema.parse(JSON.parse(data));
    if (chunk.error) throw new SdkError(chunk.error.code ?? "engine_failed", chunk.error.message);
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
  if (answer.finish_reason === "") throw new SdkError("broken_stream", "The answer broke off before its end");
  return answer;
}
