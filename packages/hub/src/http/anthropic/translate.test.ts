import { describe, expect, it } from "vitest";
import { chatBodySchema } from "../inference/schemas.ts";
import { parseBody } from "../parse.ts";
import { messagesBodySchema } from "./schemas.ts";
import { chatBodyOf } from "./translate.ts";

const base = { model: "m", max_tokens: 10, messages: [{ role: "user", content: "Hi" }] };
/** As the route does; what comes out must be a body that /v1/chat/completions takes. */
function translated(more: object) {
  const body = chatBodyOf(parseBody(messagesBodySchema, { ...base, ...more }));
  expect(parseBody(chatBodySchema, JSON.parse(JSON.stringify(body)))).toMatchObject({ model: "m" });
  return body;
}
const refused = (more: object) => {
  try {
    translated(more);
  } catch (error) {
    return error;
  }
  throw new Error("it was taken");
};
const PNG = "iVBORw0KGgo=";
const weather = { name: "weather", input_schema: { type: "object", properties: {} } };

describe("a prompt", () => {
  it("in strings goes as it is", () => {
    expect(translated({ system: "Be brief", temperature: 0.5, top_p: 0.9, top_k: 4 })).toEqual({
      model: "m",
      messages: [
        { role: "system", content: "Be brief" },
        { role: "user", content: "Hi" },
      ],
      max_tokens: 10,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 4,
      stream: false,
    });
  });

  it("in blocks keeps texts, images and hints for caches out of each other's way", () => {
    const cache_control = { type: "ephemeral", ttl: "1h" };
    const body = translated({
      system: [
        { type: "text", text: "One" },
        { type: "text", text: "Two", cache_control },
      ],
      cache_control,
      metadata: { user_id: "u" },
      messages: [
        {
          role: "user",
          content: [
            { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } },
            { type: "image", source: { type: "url", url: `data:image/webp;base64,${PNG}` } },
            { type: "text", text: "What is it?", cache_control },
          ],
        },
      ],
    });
    expect(body.messages).toEqual([
      { role: "system", content: "One\n\nTwo" },
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } },
          { type: "image_url", image_url: { url: `data:image/webp;base64,${PNG}` } },
          { type: "text", text: "What is it?" },
        ],
      },
    ]);
    expect(JSON.stringify(body)).not.toMatch(/cache_control|ephemeral|metadata/);
  });

  it("with tools used: thoughts, calls and results come in the order that chat templates want", () => {
    const { messages } = translated({
      messages: [
        { role: "user", content: "Weather?" },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "Two cities.", signature: "unsigned" },
            { type: "text", text: "I look." },
            { type: "tool_use", id: "t1", name: "weather", input: { city: "Bern" } },
            { type: "tool_use", id: "t2", name: "weather", input: {} },
          ],
        },
        {
          role: "user",
          content: [
            { type: "text", text: "And briefly" },
            { type: "tool_result", tool_use_id: "t1", content: "rain" },
            {
              type: "tool_result",
              tool_use_id: "t2",
              is_error: true,
              content: [{ type: "text", text: "no city" }],
            },
          ],
        },
      ],
    });
    const called = (id: string, given: string) => ({
      id,
      type: "function",
      function: { name: "weather", arguments: given },
    });
    expect(messages.slice(1)).toEqual([
      {
        role: "assistant",
        content: "I look.",
        reasoning_content: "Two cities.",
        tool_calls: [called("t1", '{"city":"Bern"}'), called("t2", "{}")],
      },
      { role: "tool", tool_call_id: "t1", content: "rain" },
      { role: "tool", tool_call_id: "t2", content: "Error: no city" },
      { role: "user", content: "And briefly" },
    ]);
  });
});

describe("what is asked of the model", () => {
  it.each<[object, object]>([
    [{ type: "auto" }, { tool_choice: "auto" }],
    [{ type: "any" }, { tool_choice: "required" }],
    [
      { type: "any", disable_parallel_tool_use: true },
      { tool_choice: "required", parallel_tool_calls: false },
    ],
    [{ type: "tool", name: "weather" }, { tool_choice: { type: "function", function: { name: "weather" } } }],
    [{ type: "none" }, { tool_choice: "none" }],
  ])("tool_choice %j", (tool_choice, expected) => {
    const { tools, tool_choice: choice, parallel_tool_calls } = translated({ tools: [weather], tool_choice });
    expect(tools).toEqual([
      { type: "function", function: { name: "weather", parameters: weather.input_schema } },
    ]);
    expect({
      tool_choice: choice,
      ...(parallel_tool_calls === undefined ? {} : { parallel_tool_calls }),
    }).toEqual(expected);
  });

  it.each<[object, string | undefined]>([
    [{}, undefined],
    [{ thinking: { type: "disabled" } }, "none"],
    [{ thinking: { type: "enabled", budget_tokens: 1024 } }, "low"],
    [{ thinking: { type: "enabled", budget_tokens: 10_000 } }, "medium"],
    [{ thinking: { type: "enabled", budget_tokens: 32_000 } }, "high"],
    [{ thinking: { type: "adaptive" } }, "medium"],
    [{ thinking: { type: "adaptive" }, output_config: { effort: "low" } }, "low"],
    [{ output_config: { effort: "max" } }, "high"],
  ])("how much to think: %j", (more, effort) => {
    expect(translated(more).reasoning_effort).toBe(effort);
  });

  it("stop sequences and a schema of the answer", () => {
    const schema = { type: "object" };
    expect(
      translated({ stop_sequences: ["END"], output_config: { format: { type: "json_schema", schema } } }),
    ).toMatchObject({
      stop: ["END"],
      response_format: { type: "json_schema", json_schema: { schema, strict: true } },
    });
  });
});

describe("what cannot be honoured is refused by name", () => {
  const say = (content: unknown, role = "user") => ({ messages: [{ role, content }] });
  it.each<[string, object, string]>([
    ["no bound on the answer", { max_tokens: undefined }, "max_tokens"],
    ["an unknown field", { surprise: 1 }, "surprise"],
    ["a document", say([{ type: "document", source: {} }]), "messages[0].content[0].type"],
    [
      "an image from the web",
      say([{ type: "image", source: { type: "url", url: "https://example.org/a.png" } }]),
      "messages[0].content[0].source.url",
    ],
    [
      "an image by file",
      say([{ type: "image", source: { type: "file", file_id: "f" } }]),
      "messages[0].content[0].source.type",
    ],
    [
      "thoughts that are encrypted",
      {
        messages: [
          ...say([{ type: "redacted_thinking", data: "x" }], "assistant").messages,
          ...base.messages,
        ],
      },
      "messages[0].content[0].type",
    ],
    [
      "a result of no call",
      say([{ type: "tool_result", tool_use_id: "t9", content: "x" }]),
      "messages[0].content[0].tool_use_id",
    ],
    ["an answer to be continued", say("The answer is", "assistant"), "messages"],
    [
      "a tool of Anthropic's",
      { tools: [{ type: "web_search_20250305", name: "web_search" }] },
      "tools[0].type",
    ],
    [
      "a tool that is not there",
      { tools: [weather], tool_choice: { type: "tool", name: "x" } },
      "tool_choice.name",
    ],
    ["a choice among no tools", { tool_choice: { type: "any" } }, "tool_choice"],
    [
      "an effort without thinking",
      { thinking: { type: "disabled" }, output_config: { effort: "low" } },
      "output_config.effort",
    ],
    ["other servers' tools", { mcp_servers: [] }, "mcp_servers"],
    ["a hot temperature", { temperature: 3 }, "temperature"],
  ])("%s", (_what, more, param) => {
    const error = refused(more);
    expect(error).toMatchObject({ status: 400, param });
    expect((error as Error).message).toContain(param);
  });
});
