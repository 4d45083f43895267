import type { ServerResponse } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { streamChat } from "./chat.ts";
import { createClient } from "./client.ts";
import { SdkError } from "./errors.ts";
import {
  answerJson,
  beginEvents,
  chunk,
  type ScriptedServer,
  startScriptedServer,
} from "./testing/scripted-server.ts";

const open: ScriptedServer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function serve(answer: (response: ServerResponse, nth: number) => void | Promise<void>) {
  const server = await startScriptedServer(answer);
  open.push(server);
  return { server, client: createClient({ baseUrl: server.url, apiKey: "gfe_sk_test" }) };
}

const delta = (content: string, finish_reason: string | null = null) =>
  chunk({ choices: [{ index: 0, delta: { content }, finish_reason }], usage: null });
const USAGE = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
const X_GFE = {
  job_id: "job_1",
  node_id: "nod_1",
  node_name: "lab",
  cost_micro: "1000000",
  fee_micro: "50000",
  cost_credits: "1",
};
const DONE = "data: [DONE]\n\n";
const ASK = { model: "m", messages: [{ role: "user" as const, content: "hi" }] };

describe("chat", () => {
  it("gathers the text, the end's reason, and who answered at what cost", async () => {
    const { client, server } = await serve((response) => {
      beginEvents(response).end(
        `: keep-alive\n\n${delta("Hel")}${delta("lo", "stop")}${chunk({ choices: [], usage: USAGE, x_gfe: X_GFE })}${DONE}`,
      );
    });
    const heard: string[] = [];
    const answer = await client.chat({ ...ASK, onDelta: ({ content }) => heard.push(content) });
    expect(answer).toMatchObject({ content: "Hello", finish_reason: "stop" });
    expect(answer.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 2 });
    expect(answer.x_gfe).toMatchObject({ job_id: "job_1", node_name: "lab", cost_micro: "1000000" });
    expect(heard).toEqual(["Hel", "lo"]);
    expect(server.requests[0]!.headers.authorization).toBe("Bearer gfe_sk_test");
    expect(JSON.parse(server.requests[0]!.body)).toEqual({
      ...ASK,
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  it("keeps reasoning apart from the answer", async () => {
    const { client } = await serve((response) => {
      const thought = chunk({ choices: [{ index: 0, delta: { reasoning_content: "hm" } }] });
      beginEvents(response).end(thought + delta("yes", "stop") + DONE);
    });
    expect(await client.chat(ASK)).toMatchObject({ content: "yes", reasoning: "hm" });
  });

  it("raises an error chunk with its code, after the text that came before it", async () => {
    const { client } = await serve((response) => {
      const error = { message: "The node went away", type: "server_error", param: null, code: "node_lost" };
      beginEvents(response).end(delta("half") + chunk({ error }));
    });
    let text = "";
    const chat = client.chat({ ...ASK, onDelta: ({ content }) => (text += content) });
    await expect(chat).rejects.toMatchObject({
      name: "SdkError",
      code: "node_lost",
      message: "The node went away",
      status: 502,
    });
    expect(text).toBe("half");
  });

  it.each([
    ["no finish_reason", delta("cut") + DONE],
    ["no [DONE]", delta("cut", "stop")],
    ["nothing at all", ""],
    ["a half event", `${delta("cut", "stop")}data: [DO`],
  ])("takes a stream that ends with %s for broken", async (_name, text) => {
    const { client } = await serve((response) => void beginEvents(response).end(text));
    await expect(client.chat(ASK)).rejects.toMatchObject({ code: "broken_stream" });
  });

  it("takes a connection cut in mid-stream, and a chunk that is no JSON, for a broken stream", async () => {
    const { client } = await serve((response, nth) => {
      beginEvents(response).write(nth === 0 ? delta("cut") : "data: {oops\n\n");
      if (nth === 0) setImmediate(() => response.destroy());
    });
    await expect(client.chat(ASK)).rejects.toMatchObject({ code: "broken_stream" });
    await expect(client.chat(ASK)).rejects.toMatchObject({ code: "broken_stream" });
  });

  it("gives up on a hub that went silent", async () => {
    const { server } = await serve((response) => void beginEvents(response).write(delta("then nothing")));
    const chat = streamChat((_body, signal) => fetch(server.url, { signal }), ASK, 50);
    await expect(chat).rejects.toMatchObject({ code: "broken_stream", message: /silent/ });
  });

  it("passes the caller's abort on to the hub and rejects with its reason", async () => {
    const gone = Promise.withResolvers<void>();
    const { client } = await serve((response) => {
      response.on("close", gone.resolve);
      beginEvents(response).write(delta("endless"));
    });
    const stop = new AbortController();
    const chat = client.chat({ ...ASK, signal: stop.signal, onDelta: () => stop.abort() });
    await expect(chat).rejects.toMatchObject({ name: "AbortError" });
    await gone.promise;
  });

  it("raises a refusal in OpenAI's dialect with code, status, field and time to wait", async () => {
    const { client } = await serve((response) => {
      const error = { message: "Slow down", type: "rate_limit_error", param: "model", code: "rate_limited" };
      answerJson(response, 429, { error }, { "retry-after": "7" });
    });
    const refusal = await client.chat(ASK).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(SdkError);
    expect(refusal).toMatchObject({ code: "rate_limited", status: 429, param: "model", retryAfterS: 7 });
  });
});
