import type { ServerResponse } from "node:http";
import type { LiveEvent, LiveStats } from "@gfe/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { createClient } from "./client.ts";
import type { LiveState } from "./live.ts";
import {
  answerJson,
  beginEvents,
  type ScriptedServer,
  startScriptedServer,
} from "./testing/scripted-server.ts";

const open: ScriptedServer[] = [];
const stops: AbortController[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) stop.abort();
  await Promise.all(open.splice(0).map((server) => server.close()));
});

const STATS: LiveStats = {
  nodes_online: 1,
  models: 1,
  slots: 1,
  running: 0,
  jobs_total: 0,
  jobs_completed: 0,
  tokens_total: 0,
  tokens_per_second: 0,
};
const event = (id: string, jobs_total: number) =>
  `id: ${id}\nevent: stats\ndata: ${JSON.stringify({ type: "stats", stats: { ...STATS, jobs_total } })}\n\n`;
const QUICK = { backOffFirstMs: 5, backOffMaxMs: 20 };

/** Follows the scripted stream; `until` resolves once what was heard and seen satisfies it. */
async function follow(
  answer: (response: ServerResponse, nth: number) => void | Promise<void>,
  timing: { silenceMs?: number; backOffFirstMs?: number; backOffMaxMs?: number } = QUICK,
) {
  const server = await startScriptedServer(answer);
  open.push(server);
  const stop = new AbortController();
  stops.push(stop);
  const events: LiveEvent[] = [];
  const states: LiveState[] = [];
  let check = () => {};
  const ended = createClient({ baseUrl: server.url }).live({
    signal: stop.signal,
    timing,
    onEvent(heard) {
      events.push(heard);
      check();
    },
    onState(state) {
      states.push(state);
      check();
    },
  });
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve) => {
      check = () => void (condition() && resolve());
      check();
    });
  return { server, stop, events, states, ended, until };
}

describe("live", () => {
  it("comes back after a cut and asks for what it missed by Last-Event-ID", async () => {
    const { server, events, states, until } = await follow((response, nth) => {
      beginEvents(response);
      if (nth === 0) response.end(event("b-1", 1) + event("b-2", 2));
      else response.write(event("b-3", 3));
    });
    await until(() => events.length === 3);
    expect(events.map((heard) => heard.type === "stats" && heard.stats.jobs_total)).toEqual([1, 2, 3]);
    expect(server.requests.map(({ headers }) => headers["last-event-id"])).toEqual([undefined, "b-2"]);
    expect(states).toEqual(["live", "reconnecting", "live"]);
  });

  it("goes on trying while the hub is away or overloaded", async () => {
    const { server, states, until } = await follow((response, nth) => {
      if (nth === 0) response.destroy();
      else if (nth === 1) answerJson(response, 503, { code: "shutting_down", detail: "restarting" });
      else beginEvents(response).write(event("b-1", 1));
    });
    await until(() => states.includes("live"));
    expect(states).toEqual(["reconnecting", "live"]);
    expect(server.requests).toHaveLength(3);
  });

  it("calls silence stale, drops the connection, and stays live on heartbeats alone", async () => {
    const beaten = Promise.withResolvers<void>();
    const { server, states, until } = await follow(
      (response, nth) => {
        beginEvents(response).write(event("b-1", 1));
        if (nth === 0) return;
        let beats = 0;
        const beating = setInterval(() => {
          response.write(": heartbeat\n\n");
          if (++beats === 40) beaten.resolve();
        }, 20);
        response.on("close", () => clearInterval(beating));
      },
      { ...QUICK, silenceMs: 300 },
    );
    await until(() => states.length === 3);
    expect(states).toEqual(["live", "stale", "live"]);
    await beaten.promise;
    expect(states).toHaveLength(3);
    expect(server.requests).toHaveLength(2);
  });

  it("ignores events of a type it does not know", async () => {
    const { events, states, until } = await follow((response) => {
      beginEvents(response).write(`id: 1\ndata: {"type":"news","text":"x"}\n\n${event("2", 2)}`);
    });
    await until(() => events.length === 1);
    expect(states).toEqual(["live"]);
  });

  it("throws where the hub refuses for good", async () => {
    const { ended, server } = await follow((response) =>
      answerJson(response, 401, { code: "key_revoked", detail: "The API key was revoked" }),
    );
    await expect(ended).rejects.toMatchObject({ code: "key_revoked", status: 401 });
    expect(server.requests).toHaveLength(1);
  });

  it("ends at once when told to, even in mid-wait", async () => {
    const { ended, stop, states, until } = await follow((response) => void response.destroy(), {
      backOffFirstMs: 60_000,
      backOffMaxMs: 60_000,
    });
    await until(() => states.includes("reconnecting"));
    stop.abort();
    await ended;
  });
});
