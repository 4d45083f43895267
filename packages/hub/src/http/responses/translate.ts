/** From items to the messages that the internal request speaks: pure functions. */
import { GfeError } from "@gfe/protocol";
import type { ChatBody } from "../inference/schemas.ts";
import type { FieldNames } from "../inference/words.ts";
import type { Item, ResponsesBody } from "./schemas.ts";

type Message = ChatBody["messages"][number];
type Content = Extract<Message, { role: "user" }>["content"];
type Parts = Extract<Extract<Item, { role: string }>["content"], readonly unknown[]>;

/** Where the Responses API has another name for it. */
export const RESPONSES_NAMES: FieldNames = {
  reasoning_effort: "reasoning.effort",
  response_format: "text.format",
  logprobs: "include",
  messages: "input",
  max_tokens: "max_output_tokens",
};

/** `items`: all that the model reads. Throws GfeError invalid_request where a result belongs to no call. */
export function chatBodyOf(asked: ResponsesBody, items: readonly Item[]): ChatBody {
  const { temperature, top_p, provider, service_tier, metadata } = asked;
  const system: Message[] = asked.instructions ? [{ role: "system", content: asked.instructions }] : [];
  return {
    model: asked.model,
    messages: [...system, ...messagesOf(items)],
    stream: asked.stream === true,
    ...{ temperature, top_p, provider, service_tier, metadata },
    ...(asked.max_output_tokens == null ? {} : { max_tokens: asked.max_output_tokens }),
    ...toolsOf(asked),
    ...formatOf(asked.text),
    ...(asked.reasoning?.effort ? { reasoning_effort: asked.reasoning.effort } : {}),
    ...(asked.include?.includes("message.output_text.logprobs") || asked.top_logprobs
      ? { logprobs: true, top_logprobs: asked.top_logprobs ?? 0 }
      : {}),
  };
}

/** What a model said in one turn (thought, text, calls) is several items, and one message. */
function messagesOf(items: readonly Item[]): Message[] {
  const messages: Message[] = [];
  const called = new Set<string>();
  const turn = (): Extract<Message, { role: "assistant" }> => {
    const last = messages.at(-1);
    if (last?.role === "assistant") return last;
    const begun = { role: "assistant" as const, content: "" };
    messages.push(begun);
    return begun;
  };
  for (const item of items) {
    if (item.type === "function_call") {
      const { call_id: id, name, arguments: text } = item;
      const message = turn();
      called.add(id);
      message.tool_calls = [
        ...(message.tool_calls ?? []),
        { id, type: "function", function: { name, arguments: text } },
      ];
    } else if (item.type === "function_call_output") {
      if (!called.has(item.call_id))
        throw new GfeError("invalid_request", `input: the result ${item.call_id} answers no earlier call`, {
          param: "input",
        });
      messages.push({ role: "tool", tool_call_id: item.call_id, content: contentOf(item.output) });
    } else if (item.type === "reasoning") {
      const said = item.content?.length ? item.content : item.summary;
      const thought = said.map(({ text }) => text).join("\n");
      if (thought === "") continue;
      const message = turn();
      message.reasoning_content = `${message.reasoning_content ?? ""}${thought}`;
    } else if (item.role === "assistant") {
      const message = turn();
      message.content = `${message.content}${textOf(item.content)}`;
    } else messages.push({ role: item.role, content: contentOf(item.content) });
  }
  return messages;
}

const textOf = (content: string | Parts): string =>
  typeof content === "string"
    ? content
    : content.map((part) => ("text" in part ? part.text : "refusal" in part ? part.refusal : "")).join("");

function contentOf(content: string | Parts): Content {
  if (typeof content === "string" || content.every(({ type }) => type !== "input_image"))
    return textOf(content);
  return content.map((part) =>
    part.type === "input_image"
      ? {
          type: "image_url" as const,
          image_url: { url: part.image_url, ...(part.detail ? { detail: part.detail } : {}) },
        }
      : { type: "text" as const, text: textOf([part]) },
  );
}

function toolsOf({
  tools,
  tool_choice: choice,
  parallel_tool_calls: parallel,
}: ResponsesBody): Partial<ChatBody> {
  if (!tools || tools.length === 0) return {};
  return {
    tools: tools.map(({ name, description, parameters, strict }) => ({
      type: "function",
      function: {
        name,
        ...(description == null ? {} : { description }),
        ...(parameters == null ? {} : { parameters }),
        ...(strict == null ? {} : { strict }),
      },
    })),
    ...(choice == null
      ? {}
      : {
          tool_choice:
            typeof choice === "string" ? choice : { type: "function", function: { name: choice.name } },
        }),
    ...(parallel == null ? {} : { parallel_tool_calls: parallel }),
  };
}

function formatOf(text: ResponsesBody["text"]): Partial<ChatBody> {
  const format = text?.format;
  if (!format || format.type === "text") return {};
  if (format.type === "json_object") return { response_format: format };
  const { name, description, schema, strict } = format;
  return {
    response_format: {
      type: "json_schema",
      json_schema: { name, schema, strict: strict ?? true, ...(description == null ? {} : { description }) },
    },
  };
}
