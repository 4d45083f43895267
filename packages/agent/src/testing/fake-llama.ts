/**
 * A server that answers as llama.cpp's does, on the port that it is given: it says its prompt back, a character a chunk. Prompted
 * with `crash` it crashes as an allocation that failed would, with `big` it says four megabytes. It imports only Node.
 */
import * as http from "node:http";
import type { AddressInfo } from "node:net";

const port = Number(process.argv[process.argv.indexOf("--port") + 1]);
const json = (response: http.ServerResponse, body: object) =>
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));

const server = http.createServer(async (request, response) => {
  if (request.url === "/v1/models")
    return json(response, {
      object: "list",
      data: [{ id: "fake.gguf", object: "model", owned_by: "llamacpp" }],
    });
  if (request.url === "/props")
    return json(response, {
      build_info: "b1-fake",
      total_slots: 2,
      default_generation_settings: { n_ctx: 4096 },
      model_path: "/nowhere.gguf",
      chat_template: "x",
    });
  if (request.method !== "POST") return void response.writeHead(404).end();
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  const prompt = (JSON.parse(text) as { messages: { content: string }[] }).messages.at(-1)!.content;
  if (prompt === "crash") {
    console.error("cudaMalloc failed: out of memory");
    process.exit(1);
  }
  const pieces = prompt === "big" ? Array.from({ length: 1024 }, () => "x".repeat(4096)) : [...prompt];
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const content of pieces)
    if (!response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`))
      await new Promise((resolve) => response.once("drain", resolve));
  const end = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
  const usage = { choices: [], usage: { prompt_tokens: 3, completion_tokens: pieces.length } };
  response.end(`data: ${JSON.stringify(end)}\n\ndata: ${JSON.stringify(usage)}\n\ndata: [DONE]\n\n`);
});
server.listen(port, "127.0.0.1", () =>
  console.error(`listening on ${(server.address() as AddressInfo).port}`),
);
