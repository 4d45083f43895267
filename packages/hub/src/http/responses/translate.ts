/** From items to the messages that the internal request speaks: pure functions. */
import type { ChatBody } from "../inference/schemas.ts";
import type { Item, ResponsesBody } from "./schemas.ts";

type Message = ChatBody["messages"][number];
type Content = Extract<Message, { role: "user" }>["content"];
type Parts = Extract<Extract<Item, { role: string }>["content"], readonly unknown[]>;

export function chatBodyOf(asked: ResponsesBody): ChatBody {
  const { temperature, top_p, provider, service_tier, metadata } = asked;
  const system: Message[] = asked.instructions ? [{ role: "system", content: asked.instructions }] : [];
  const said: Message[] =
    typeof asked.input === "string" ? [{ role: "user", content: asked.input }] : messagesOf(asked.input);
  return {
    model: asked.model,
    messages: [...system, ...said],
    stream: asked.stream === true,
    ...{ temperature, top_p, provider, service_tier, metadata },
    ...(asked.max_output_tokens == null ? {} : { max_tokens: asked.max_output_tokens }),
    ...toolsOf(asked),
    ...formatOf(asked.text),
    ...(asked.reasoning?.effort ? { reasoning_effort: asked.reasoning.effort } : {}),
  };
}

/** What a model said in one turn (thought, text, calls) is several items, and one message. */
function messagesOf(items: readonly Item[]): Message[] {
  const messages: Message[] = [];
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
      message.tool_calls = [
        ...(message.tool_calls ?? []),
        { id, type: "function", function: { name, arguments: text } },
      ];
    } else if (item.type === "function_call_output") {
      messages.push({ role: "tool", tool_call_id: item.call_id, content: contentOf(item.output) });
    } else if (item.type === "reasoning") {
      const thought = item.summary.map(({ text }) => text).join("\n");
      if (thought !== "") turn().reasoning_content = thought;
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
