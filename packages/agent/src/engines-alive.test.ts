/** A node whose engines come, go, hang and break, seen from its hub. */
import { afterEach, describe, expect, it } from "vitest";
import type { AgentEvent } from "./agent.ts";
import { HEALTH_LIMITS } from "./engines/health.ts";
import type { Host } from "./host.ts";
import { ENGINE_LIMITS } from "./limits.ts";
import { type Answer, createEngineServer, type EngineServer, ndjson, sse } from "./testing/engine-server.ts";
import { koboldCppServer, llamaCppServer, ollamaServer } from "./testing/engines.ts";
import { attemptId, hubOf, memoryHost, nodeOf } from "./testing/nodes.ts";
import { done, said } from "./testing/ollama.ts";

const servers: EngineServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});
async function serve(answers: Record<string, Answer>, port?: number): Promise<EngineServer> {
  const server = await createEngineServer(answers, port);
  servers.push(server);
  return server;
}
const portOf = ({ url }: EngineServer) => Number(new URL(url).port);

/** Of which no environment tells where engines are. */
const bareHost = (): Host => ({ ...memoryHost(), env: {} });

/** What is waited for in seconds or minutes comes in milliseconds; all else in its time. */
function hastyHost(): Host {
  const host = bareHost();
  const soon = new Set<number>([
    ENGINE_LIMITS.stallMs / 5,
    ENGINE_LIMITS.firstTokenMs,
    ...Object.values(HEALTH_LIMITS.firstMs),
  ]);
  return { ...host, after: (ms, callback) => host.after(soon.has(ms) ? 20 : ms, callback) };
}

const works = ndjson(said("Hello"), done());
const error = (status: number, message: string): Answer => {
  return (_request, response) => void response.writeHead(status).end(JSON.stringify({ error: message }));
};

async function nodeWith(ports: number[], more: object = {}) {
  const hub = await hubOf();
  const node = await nodeOf(hub, {}, {
    ...{ host: hastyHost(), detect: { ports }, refreshMs: 3_600_000, ...more },
    engines: [],
  } as object);
  const connection = await hub.joined();
  const ask = (model: string) => connection.start({ attempt: attemptId(), model, kind: "chat" });
  return { ...node, connection, ask };
}

const modelsOf = (announcement: { models: { model: string }[] }) =>
  announcement.models.map(({ model }) => model);
const about = (events: AgentEvent[]) =>
  events.filter((event) => event.type === "withdrawn" || event.type === "restored");

describe("a model is withdrawn with its reason, and restored when a probe works,", () => {
  it.each<[string, string, Answer]>([
    [
      "when its engine is out of memory",
      "out_of_memory",
      error(500, "model requires more system memory (8.4 GiB) than is available (7.7 GiB)"),
    ],
    ["when its runner crashes", "crashed", error(500, "llama runner process has terminated: exit status 2")],
    [
      "when it was removed",
      "model_unavailable",
      error(404, 'model "qwen3:8b" not found, try pulling it first'),
    ],
    [
      "when its engine breaks off in the middle of an answer",
      "crashed",
      (_request, response) => {
        response.writeHead(200).write(`${JSON.stringify(said("Hel"))}\n`, () => response.destroy());
      },
    ],
    [
      "when its engine hangs in the middle of an answer",
      "hung",
      (_request, response) => void response.writeHead(200).write(`${JSON.stringify(said("Hel"))}\n`),
    ],
    ["when no answer comes in time", "hung", () => {}],
    [
      "when an answer begins and no first token comes in time",
      "hung",
      (_request, response) => void response.writeHead(200).flushHeaders(),
    ],
  ])("%s", async (_case, code, broken) => {
    const server = await serve({ ...ollamaServer(), "/api/chat": broken });
    const { connection, ask, events, agent } = await nodeWith([portOf(server)]);
    expect(modelsOf(connection.hello.announcement)).toEqual(["qwen3:8b"]);
    const probed = Promise.withResolvers<void>();
    const attempt = ask("qwen3:8b");
    expect(await attempt.end).toMatchObject({ type: "attempt.failed", code: "engine_error" });
    await connection.frame("announce", ({ announcement }) => announcement.models.length === 0);
    expect(about(events)).toMatchObject([{ type: "withdrawn", model: "qwen3:8b", engine: server.url, code }]);
    expect(agent.withdrawals).toMatchObject([{ model: "qwen3:8b", code }]);
    server.answers["/api/chat"] = (request, response) => {
      probed.resolve();
      return (works as Extract<Answer, (...all: never[]) => unknown>)(request, response);
    };
    // A probe that hung before it was mended ends by its own limit; a look at the engines is no probe.
    if (code !== "hung") {
      await probed.promise;
      await connection.frame("announce", ({ announcement }) => modelsOf(announcement)[0] === "qwen3:8b");
      expect(about(events).at(-1)).toMatchObject({ type: "restored", model: "qwen3:8b" });
      expect((await ask("qwen3:8b").end).type).toBe("attempt.done");
      expect(agent.withdrawals).toEqual([]);
    }
  });

  it("but not for what a consumer asked wrongly", async () => {
    const server = await serve({
      ...ollamaServer(),
      "/api/chat": error(400, "out of memory, says the caller"),
    });
    const { ask, agent } = await nodeWith([portOf(server)]);
    for (let times = 0; times < 5; times++)
      expect(await ask("qwen3:8b").end).toMatchObject({ code: "engine_refused" });
    expect(agent.offers.map(({ model }) => model)).toEqual(["qwen3:8b"]);
  });

  it("and after several failures in a row of which nothing is known", async () => {
    const server = await serve({ ...ollamaServer(), "/api/chat": error(500, "oops") });
    const { ask, connection, events } = await nodeWith([portOf(server)]);
    for (let times = 0; times < HEALTH_LIMITS.softFaults; times++) await ask("qwen3:8b").end;
    await connection.frame("announce", ({ announcement }) => announcement.models.length === 0);
    expect(about(events)).toMatchObject([{ type: "withdrawn", code: "failing" }]);
  });
});

describe("engines", () => {
  it("are several at once, and are taken in and let go of while the node runs", async () => {
    const first = await serve(ollamaServer());
    const second = await serve({});
    const port = portOf(second);
    await second.close();
    const { agent, events } = await nodeWith([portOf(first), port]);
    const offered = () => agent.offers.map(({ model, engine }) => `${model} ${engine}`);
    expect(offered()).toEqual(["qwen3:8b ollama"]);
    const looks = async (count: number) => {
      for (let times = 0; times < count; times++) await agent.refresh();
    };
    const llama = await serve(llamaCppServer(), port);
    await looks(4);
    expect(offered()).toEqual(["qwen3:8b ollama", "Qwen3-8B-Q4_K_M llama.cpp"]);
    // Another program takes its place at the same address.
    await llama.close();
    const kobold = await serve(koboldCppServer(), port);
    await looks(4);
    expect(offered()).toEqual(["qwen3:8b ollama", "Qwen3-8B-Q4_K_M koboldcpp"]);
    await kobold.close();
    await looks(2);
    expect(offered()).toEqual(["qwen3:8b ollama"]);
    expect(agent.engines.map(({ kind, error }) => [kind, error === null])).toEqual([
      ["ollama", true],
      ["koboldcpp", false],
    ]);
    await looks(16);
    expect(agent.engines.map(({ kind }) => kind)).toEqual(["ollama"]);
    expect(events.filter(({ type }) => type === "engines").length).toBeGreaterThan(3);
  });

  it("with the very same model share its attempts, and its slots are those of both", async () => {
    const answer: Answer = () => {};
    const both = [await serve(ollamaServer()), await serve(ollamaServer())];
    for (const server of both) server.answers["/api/chat"] = answer;
    const { ask, agent, connection } = await nodeWith(both.map(portOf), { host: bareHost() });
    expect(agent.offers).toMatchObject([{ model: "qwen3:8b", slots: 2 }]);
    expect(connection.hello.announcement.slots).toBe(2);
    ask("qwen3:8b");
    ask("qwen3:8b");
    expect(await ask("qwen3:8b").end).toMatchObject({ type: "attempt.failed", code: "busy" });
    await expect
      .poll(() => both.map(({ requests }) => requests.filter(({ path }) => path === "/api/chat").length))
      .toEqual([1, 1]);
  });

  it("with two different models of one name are two choices, each reached by its own", async () => {
    const name = {
      "/v1/models": { object: "list", data: [{ id: "qwen3:8b", object: "model", owned_by: "llamacpp" }] },
    };
    const [first, second] = [
      await serve({ ...ollamaServer(), "/api/chat": works }),
      await serve({
        ...llamaCppServer(),
        ...name,
        "/v1/chat/completions": sse({
          choices: [{ index: 0, delta: { content: "Hi" }, finish_reason: "stop" }],
        }),
      }),
    ];
    const { ask, agent } = await nodeWith([first, second].map(portOf));
    expect(agent.offers.map(({ model, slots }) => [model, slots])).toEqual([
      ["qwen3:8b", 1],
      ["qwen3:8b@llama.cpp", 4],
    ]);
    expect((await ask("qwen3:8b@llama.cpp").end).type).toBe("attempt.done");
    const sent = second.requests.find(({ path }) => path === "/v1/chat/completions");
    expect(sent?.body.model).toBe("qwen3:8b");
    expect((await ask("qwen3:8b").end).type).toBe("attempt.done");
    expect(first.requests.some(({ path }) => path === "/api/chat")).toBe(true);
  });

  it("have the slots that their owner gives them", async () => {
    const server = await serve(ollamaServer());
    const { agent } = await nodeWith([portOf(server)], { slotLimits: new Map([["ollama", 3]]) });
    expect(agent.offers).toMatchObject([{ model: "qwen3:8b", slots: 3 }]);
    expect(agent.engines).toMatchObject([{ notes: [] }]);
    // What is set while it runs counts more, and is taken back without it.
    agent.limitEngines(new Map([["ollama", 2]]));
    expect(agent.offers).toMatchObject([{ slots: 2 }]);
    agent.limitEngines(new Map());
    expect(agent.offers).toMatchObject([{ slots: 3 }]);
  });

  it("that do not tell their slots are said to be assumed", async () => {
    const server = await serve(ollamaServer());
    const { agent } = await nodeWith([portOf(server)]);
    expect(agent.engines).toMatchObject([
      { notes: [expect.stringContaining("1 at once: Ollama does not tell")] },
    ]);
  });
});
