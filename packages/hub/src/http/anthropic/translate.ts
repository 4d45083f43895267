/** From Anthropic's words to OpenAI's, which the internal request speaks: pure functions. */
import { GfeError } from "@gfe/protocol";
import type { ChatBody } from "../inference/schemas.ts";
import type { FieldNames } from "../inference/words.ts";
import type { AnthropicMessage, CountTokensBody, MessagesBody } from "./schemas.ts";

type Message = ChatBody["messages"][number];
type Content = Extract<Message, { role: "user" }>["content"];
type Part = Exclude<Content, string>[number];
type UserBlock = Exclude<Extract<AnthropicMessage, { role: "user" }>["content"], string>[number];
type ToolResult = Extract<UserBlock, { type: "tool_result" }>;
type Shown = Exclude<UserBlock, ToolResult>;
type AssistantMessage = Extract<AnthropicMessage, { role: "assistant" }>;

/** Thinking budgets up to so many tokens ask for this effort; larger ones for high. */
const EFFORT_BUDGETS = { low: 2_048, medium: 16_384 };
/** OpenAI's dialect has no mark for a tool that failed: its result says so. */
const FAILED = "Error: ";

/** Where Anthropic has another name for it. */
export const ANTHROPIC_NAMES: FieldNames = {
  reasoning_effort: "thinking",
  response_format: "output_config.format",
  parallel_tool_calls: "tool_choice.disable_parallel_tool_use",
  stop: "stop_sequences",
};

/** Throws GfeError invalid_request where parts contradict each other. */
export function chatBodyOf(body: MessagesBody): ChatBody {
  const { stop_sequences: stops, temperature, top_p, top_k, max_tokens } = body;
  return {
    ...promptOf(body),
    ...{ max_tokens, temperature, top_p, top_k },
    stream: body.stream === true,
    ...(stops && stops.length > 0 ? { stop: stops } : {}),
  };
}

/** What a prompt consists of: all that counts as input. */
export function promptOf(body: CountTokensBody): ChatBody {
  if (body.messages.at(-1)!.role === "assistant")
    throw invalid("messages", "must not end with an assistant's: nodes cannot be made to continue it");
  const system: Message[] = body.system ? [{ role: "system", content: plain(body.system) }] : [];
  return {
    model: body.model,
    messages: [...system, ...messagesOf(body.messages)],
    ...toolsOf(body),
    ...effortOf(body),
    ...(body.output_config?.format
      ? {
          response_format: {
            type: "json_schema",
            json_schema: { name: "answer", schema: body.output_config.format.schema, strict: true },
          },
        }
      : {}),
    ...(body.provider ? { provider: body.provider } : {}),
  };
}

function messagesOf(messages: readonly AnthropicMessage[]): Message[] {
  const called = new Set<string>();
  return messages.flatMap((message, at): Message[] => {
    if (message.role === "user") return userOf(message.content, called, `messages[${at}].content`);
    if (message.role === "system") return [{ role: "system", content: plain(message.content) }];
    const said = assistantOf(message);
    for (const { id } of said.tool_calls ?? []) called.add(id);
    return [said];
  });
}

/** A user's turn: the results of tools first, as chat templates want them, then what the user says. */
function userOf(content: string | UserBlock[], called: ReadonlySet<string>, path: string): Message[] {
  if (typeof content === "string") return [{ role: "user", content }];
  const results: Message[] = [];
  const shown: Shown[] = [];
  for (const [at, block] of content.entries()) {
    if (block.type !== "tool_result") shown.push(block);
    else if (called.has(block.tool_use_id))
      results.push({ role: "tool", content: resultOf(block), tool_call_id: block.tool_use_id });
    else throw invalid(`${path}[${at}].tool_use_id`, "answers no tool_use of an earlier message");
  }
  return shown.length === 0 ? results : [...results, { role: "user", content: contentOf(shown) }];
}

function resultOf({ content, is_error: failed }: ToolResult): Content {
  const said = typeof content === "string" ? content : contentOf(content ?? []);
  if (!failed) return said;
  return typeof said === "string" ? FAILED + said : [{ type: "text", text: FAILED }, ...said];
}

/** A string where there are no images: what every engine takes. */
function contentOf(shown: readonly Shown[]): Content {
  if (shown.every((block) => block.type === "text")) return plain(shown);
  return shown.map((block): Part => {
    if (block.type === "text") return { type: "text", text: block.text };
    const { source } = block;
    const url = source.type === "url" ? source.url : `data:${source.media_type};base64,${source.data}`;
    return { type: "image_url", image_url: { url } };
  });
}

const plain = (text: string | readonly { text: string }[]): string =>
  typeof text === "string" ? text : text.map((block) => block.text).join("\n\n");

type Said = Extract<Message, { role: "assistant" }>;

function assistantOf({ content }: AssistantMessage): Said {
  if (typeof content === "string") return { role: "assistant", content };
  let text = "";
  let thought = "";
  const calls: NonNullable<Said["tool_calls"]> = [];
  for (const block of content) {
    if (block.type === "text") text += block.text;
    else if (block.type === "thinking") thought += block.thinking;
    else
      calls.push({
        id: block.id,
        type: "function",
        function: { name: block.name, arguments: JSON.stringify(block.input) },
      });
  }
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    ...(thought === "" ? {} : { reasoning_content: thought }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function toolsOf({ tools, tool_choice: choice }: CountTokensBody): Partial<ChatBody> {
  if (!tools || tools.length === 0) {
    if (choice && choice.type !== "auto" && choice.type !== "none")
      throw invalid("tool_choice", "asks for a tool, and there are no tools");
    return {};
  }
  if (choice?.type === "tool" && !tools.some(({ name }) => name === choice.name))
    throw invalid("tool_choice.name", "is none of the tools");
  return {
    tools: tools.map(({ name, description, input_schema: parameters, strict }) => ({
      type: "function",
      function: {
        name,
        parameters,
        ...(description === undefined ? {} : { description }),
        ...(strict == null ? {} : { strict }),
      },
    })),
    ...choiceOf(choice),
  };
}

function choiceOf(choice: CountTokensBody["tool_choice"]): Partial<ChatBody> {
  if (!choice) return {};
  if (choice.type === "none") return { tool_choice: "none" };
  const single = choice.disable_parallel_tool_use ? { parallel_tool_calls: false } : {};
  switch (choice.type) {
    case "auto":
      return { tool_choice: "auto", ...single };
    case "any":
      return { tool_choice: "required", ...single };
    case "tool":
      return { tool_choice: { type: "function", function: { name: choice.name } }, ...single };
  }
}

/** An effort that is named goes before what a budget suggests. */
function effortOf({ thinking, output_config: config }: CountTokensBody): Partial<ChatBody> {
  const named = config?.effort;
  if (thinking?.type === "disabled") {
    if (named) throw invalid("output_config.effort", "says how much to think, and thinking is disabled");
    return { reasoning_effort: "none" };
  }
  if (named) return { reasoning_effort: named === "xhigh" || named === "max" ? "high" : named };
  if (!thinking) return {};
  const budget = thinking.type === "enabled" ? thinking.budget_tokens : EFFORT_BUDGETS.medium;
  if (budget <= EFFORT_BUDGETS.low) return { reasoning_effort: "low" };
  return { reasoning_effort: budget <= EFFORT_BUDGETS.medium ? "medium" : "high" };
}

const invalid = (param: string, words: string) =>
  new GfeError("invalid_request", `${param}: ${words}`, { param });
