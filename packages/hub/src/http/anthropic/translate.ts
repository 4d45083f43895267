/** From Anthropic's words to OpenAI's, which the internal request speaks: pure functions. */
import type { ChatBody } from "../inference/schemas.ts";
import type { CountTokensBody, MessagesBody } from "./schemas.ts";

type Message = ChatBody["messages"][number];
type Asked = MessagesBody["messages"][number];
type Block = Exclude<Asked["content"], string>[number];
type TextOrImage = Extract<Block, { type: "text" | "image" }>;
type Content = Extract<Message, { role: "user" }>["content"];

export function chatBodyOf(asked: MessagesBody): ChatBody {
  const { temperature, top_p, top_k, stop_sequences: stop, provider, stream = false } = asked;
  return {
    ...promptOf(asked),
    stream,
    max_tokens: asked.max_tokens,
    ...{ temperature, top_p, top_k, provider },
    ...(stop && stop.length > 0 ? { stop } : {}),
  };
}

/** What a model reads, without how it shall answer: all that counts as input. */
export function promptOf(asked: CountTokensBody | MessagesBody): ChatBody {
  return {
    model: asked.model,
    messages: [...systemOf(asked.system), ...asked.messages.flatMap(messagesOf)],
    ...toolsOf(asked),
    ...effortOf(asked),
    ...formatOf(asked.output_config),
  };
}

function systemOf(system: MessagesBody["system"]): Message[] {
  if (system === undefined || system.length === 0) return [];
  const content = typeof system === "string" ? system : system.map(({ text }) => text).join("\n\n");
  return [{ role: "system", content }];
}

/** A user's message with results of tools is several in OpenAI's words: each result, then what the user says. */
function messagesOf({ role, content }: Asked): Message[] {
  if (typeof content === "string") return [{ role, content }];
  if (role === "assistant") return [assistantOf(content)];
  const messages: Message[] = [];
  const said: TextOrImage[] = [];
  for (const block of content) {
    if (block.type === "tool_result")
      messages.push({ role: "tool", tool_call_id: block.tool_use_id, content: resultOf(block) });
    else if (block.type === "text" || block.type === "image") said.push(block);
  }
  if (said.length > 0) messages.push({ role: "user", content: contentOf(said) });
  return messages;
}

function assistantOf(blocks: readonly Block[]): Message {
  const text = blocks.flatMap((block) => (block.type === "text" ? [block.text] : [])).join("");
  const thought = blocks.flatMap((block) => (block.type === "thinking" ? [block.thinking] : [])).join("");
  const calls = blocks.flatMap((block) =>
    block.type === "tool_use"
      ? [
          {
            id: block.id,
            type: "function" as const,
            function: { name: block.name, arguments: JSON.stringify(block.input) },
          },
        ]
      : [],
  );
  return {
    role: "assistant",
    content: text,
    ...(thought === "" ? {} : { reasoning_content: thought }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

/** OpenAI's words have no mark for a tool that failed: its text says so. */
function resultOf({ content = "", is_error: failed }: Extract<Block, { type: "tool_result" }>): Content {
  const said: TextOrImage[] = typeof content === "string" ? [{ type: "text", text: content }] : content;
  return contentOf(failed ? [{ type: "text", text: "Error: " }, ...said] : said);
}

function contentOf(blocks: readonly TextOrImage[]): Content {
  if (blocks.every((block) => block.type === "text")) return blocks.map(({ text }) => text).join("");
  return blocks.map((block) =>
    block.type === "text"
      ? { type: "text" as const, text: block.text }
      : {
          type: "image_url" as const,
          image_url: { url: `data:${block.source.media_type};base64,${block.source.data}` },
        },
  );
}

function toolsOf({ tools, tool_choice: choice }: CountTokensBody): Partial<ChatBody> {
  if (!tools || tools.length === 0) return {};
  return {
    tools: tools.map(({ name, description, input_schema: parameters, strict }) => ({
      type: "function",
      function: {
        name,
        parameters,
        ...(description === undefined ? {} : { description }),
        ...(strict === undefined ? {} : { strict }),
      },
    })),
    ...(choice ? { tool_choice: choiceOf(choice) } : {}),
    ...(choice && "disable_parallel_tool_use" in choice && choice.disable_parallel_tool_use
      ? { parallel_tool_calls: false }
      : {}),
  };
}

function choiceOf(choice: NonNullable<CountTokensBody["tool_choice"]>): ChatBody["tool_choice"] {
  switch (choice.type) {
    case "any":
      return "required";
    case "tool":
      return { type: "function", function: { name: choice.name } };
    default:
      return choice.type;
  }
}

/** Budgets of thought in tokens, up to which an effort is low or medium; engines know efforts only. */
const LOW_BUDGET = 4096;
const MEDIUM_BUDGET = 16_384;

function effortOf({ thinking, output_config: output }: CountTokensBody): Partial<ChatBody> {
  if (thinking?.type === "disabled") return { reasoning_effort: "none" };
  if (output?.effort) return { reasoning_effort: output.effort === "max" ? "high" : output.effort };
  if (!thinking) return {};
  const budget = thinking.type === "enabled" ? thinking.budget_tokens : MEDIUM_BUDGET;
  return { reasoning_effort: budget <= LOW_BUDGET ? "low" : budget <= MEDIUM_BUDGET ? "medium" : "high" };
}

function formatOf(output: CountTokensBody["output_config"]): Partial<ChatBody> {
  if (!output?.format) return {};
  const { schema } = output.format;
  return { response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } } };
}
