/** Two hubs as processes behind a load balancer, on one database and one Redis, with agents and consumers that come through it. */
import { Agent as HttpAgent, request } from "node:http";
import type { Agent, AgentEvent, Script } from "@gfe/agent";
import { generateKeyPair } from "@gfe/protocol";
import { startRedis } from "../../hub/src/testing/redis.ts";
import { joinScripted } from "./agents.ts";
import { type Balancer, startBalancer } from "./balancer.ts";
import { createHubHome, type HubHome, type HubProcess } from "./hub-process.ts";
import { type Person, startWorld, type World } from "./world.ts";

export interface FleetHub {
  home: HubHome;
  process: HubProcess;
  /** Starts it again, at its address and on its data. */
  start(): Promise<void>;
}

export interface FleetNode {
  agent: Agent;
  events: AgentEvent[];
}

export interface Fleet {
  hubs: [FleetHub, FleetHub];
  balancer: Balancer;
  /** Its own hub is not behind the balancer: it makes people, and looks into the books. */
  world: World;
  consumer: Person;
  nodes: FleetNode[];
  join(script: Script): Promise<FleetNode>;
  end(): Promise<void>;
}

export async function startFleet(env: Record<string, string>): Promise<Fleet> {
  const undo: (() => Promise<unknown>)[] = [];
  const end = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const redis = await startRedis();
    undo.push(() => redis.kill());
    const shared = { GFE_SECRET: "s".repeat(40), GFE_SIGNUP_CREDITS: "100000", ...env };
    const world = await startWorld(shared);
    undo.push(() => world.stop());
    const all = {
      ...shared,
      REDIS_URL: redis.url,
      DATABASE_URL: world.pool.options.connectionString!,
      GFE_HUB_KEY: JSON.stringify(await generateKeyPair()),
    };
    const startOne = async (): Promise<FleetHub> => {
      const home = await createHubHome();
      undo.push(() => home.clean());
      const hub: FleetHub = {
        home,
        process: await home.start(all),
        async start() {
          hub.process = await home.start(all);
        },
      };
      return hub;
    };
    const hubs = await Promise.all([startOne(), startOne()]);
    const balancer = await startBalancer(hubs.map(({ home }) => home.port));
    undo.push(() => balancer.close());
    const [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    const nodes: FleetNode[] = [];
    undo.push(() => Promise.all(nodes.map(({ agent }) => agent.stop())));
    return {
      ...{ hubs, balancer, world, consumer, nodes, end },
      async join(script) {
        const events: AgentEvent[] = [];
        const agent = await joinScripted(script, {
          hubUrl: balancer.url,
          token: provider.agentToken,
          onEvent: (event) => events.push(event),
        });
        nodes.push({ agent, events });
        return { agent, events };
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** How a stream went for its reader. */
export interface Streamed {
  status: number;
  text: string;
  headers: Record<string, string | string[] | undefined>;
  /** It ended as a stream ends that lacks nothing. */
  whole: boolean;
  error?: string;
}

/** One streamed chat; never rejects. `onBegun` is called with its first bytes. */
export function streamChat(
  url: string,
  consumer: Person,
  options: { model: string; words: number; agent?: HttpAgent; onBegun?: () => void },
): Promise<Streamed> {
  const { model, words, agent = new HttpAgent(), onBegun } = options;
  const streamed: Streamed = { status: 0, text: "", headers: {}, whole: false };
  return new Promise((resolve) => {
    const fail = (error: Error) => resolve({ ...streamed, error: error.message });
    const asked = request(`${url}/v1/chat/completions`, {
      ...{ method: "POST", agent, timeout: 30_000 },
      headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
    });
    asked.on("error", fail).on("timeout", () => asked.destroy(new Error("it took too long")));
    asked.on("response", (response) => {
      streamed.status = response.statusCode!;
      streamed.headers = response.headers;
      response.setEncoding("utf8").on("error", fail);
      response.on("data", (text: string) => {
        if (streamed.text === "") onBegun?.();
        streamed.text += text;
      });
      response.on("end", () => {
        const deltas = streamed.text.match(/"content":"[^"]/g)?.length ?? 0;
        resolve({ ...streamed, whole: streamed.text.endsWith("data: [DONE]\n\n") && deltas === words });
      });
    });
    asked.end(
      JSON.stringify({ model, stream: true, max_tokens: words, messages: [{ role: "user", content: "hi" }] }),
    );
  });
}

/** How often who is not served asks again. */
const TRIES = 3;

/** A consumer that streams one chat after another until it is told to stop, and then until one was served. Returns how each of them went. */
export function streamSteadily(
  url: string,
  consumer: Person,
  options: { model: string; words: number; keepAlive: boolean },
): { stop(): Promise<Streamed[]> } {
  const agent = new HttpAgent({ keepAlive: options.keepAlive, maxSockets: 1 });
  const all: Streamed[] = [];
  let stopped = false;
  const done = (async () => {
    for (let tries = 0; !stopped || (!all.at(-1)?.whole && tries++ < TRIES); )
      all.push(await streamChat(url, consumer, { ...options, agent }));
    agent.destroy();
    return all;
  })();
  return {
    stop() {
      stopped = true;
      return done;
    },
  };
}
