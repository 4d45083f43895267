/**
 * The running agent's own endpoint. Only programs of its owner reach it; what they send is checked all the same.
 *
 *   GET  /status   AgentStatus
 *   GET  /events   AgentRecord a line: the last ones, then each as it happens
 *   GET  /standing, POST /test {model}   what the hub tells of this node: NodeStanding, CanaryReport
 *   POST /pause {for_s?}   /resume   /drain {now?}   /limits {…}   /schedule {…}   /pause_when {…}   /refresh      → AgentStatus
 */
import type { CanaryReport, NodeStanding } from "@gfe/protocol";
import { z } from "zod";
import { parseJson } from "../body.ts";
import type { Guest } from "../guest/guest.ts";
import type { Host, LocalAnswer, LocalRequest, Serving } from "../host.ts";
import { CONTROL_LIMITS, prepareEndpoint } from "./endpoint.ts";
import type { Journal } from "./journal.ts";
import { limitsSchema, pauseWhenSchema, scheduleSchema } from "./owner.ts";
import type { AgentStatus } from "./status.ts";

const PAUSE_S_MAX = 30 * 86_400;

const bodies = {
  limits: limitsSchema.partial(),
  schedule: scheduleSchema.partial(),
  pauseWhen: pauseWhenSchema.partial(),
  pause: z.object({ for_s: z.number().min(1).max(PAUSE_S_MAX).optional() }),
  drain: z.object({ now: z.boolean().optional() }),
  test: z.object({ model: z.string().min(1).max(200) }),
  nothing: z.object({}),
};

export interface ControlParts {
  host: Pick<Host, "serve" | "files" | "directories" | "platform" | "nowMs">;
  status(): AgentStatus;
  journal: Journal;
  guest: Guest;
  drain(now: boolean): void;
  refresh(): Promise<void>;
  /** Why this node gets requests, or does not. Throws in words where the hub does not tell. */
  standing(): Promise<NodeStanding>;
  test(model: string): Promise<CanaryReport>;
}

/** Serves until closed. Rejects with EndpointTaken where another agent has this state directory. */
export async function serveControl(parts: ControlParts): Promise<Serving> {
  const endpoint = await prepareEndpoint(parts.host);
  return parts.host.serve(endpoint, (request) => answer(parts, request), CONTROL_LIMITS);
}

async function answer(parts: ControlParts, request: LocalRequest): Promise<LocalAnswer> {
  const route = `${request.method} ${request.path}`;
  const told = (status = 200): LocalAnswer => ({ status, body: JSON.stringify(parts.status()) });
  /** The body by its schema; the answer that says what is wrong with it otherwise. */
  const reading = async <Body>(schema: z.ZodType<Body>, act: (body: Body) => Promise<void> | void) => {
    const parsed = schema.safeParse(request.body === "" ? {} : parseJson(request.body));
    if (!parsed.success) {
      const { path, message } = parsed.error.issues[0]!;
      return failure(400, `${path.join(".") || "body"}: ${message}`);
    }
    await act(parsed.data);
    return told();
  };
  switch (route) {
    case "GET /status":
      return told();
    case "GET /events":
      return { status: 200, body: events(parts.journal) };
    case "POST /pause":
      return reading(bodies.pause, ({ for_s }) =>
        parts.guest.pause(for_s === undefined ? null : Date.now() + for_s * 1000),
      );
    case "POST /resume":
      return reading(bodies.nothing, () => parts.guest.resume());
    case "POST /limits":
      return reading(bodies.limits, (limits) => {
        const settings = parts.guest.settings();
        return parts.guest.put({ ...settings, limits: { ...settings.limits, ...limits } });
      });
    case "POST /schedule":
      return reading(bodies.schedule, (schedule) => {
        const settings = parts.guest.settings();
        return parts.guest.put({ ...settings, schedule: { ...settings.schedule, ...schedule } });
      });
    case "POST /pause_when":
      return reading(bodies.pauseWhen, (pauseWhen) => {
        const settings = parts.guest.settings();
        return parts.guest.put({ ...settings, pause_when: { ...settings.pause_when, ...pauseWhen } });
      });
    case "GET /standing":
      return asking(() => parts.standing());
    case "POST /test": {
      const parsed = bodies.test.safeParse(parseJson(request.body));
      return parsed.success
        ? asking(() => parts.test(parsed.data.model))
        : failure(400, "model: must be its name");
    }
    case "POST /drain":
      return reading(bodies.drain, ({ now = false }) => parts.drain(now));
    case "POST /refresh":
      return reading(bodies.nothing, () => parts.refresh());
    default:
      return failure(404, `${route} is nothing that this agent does`);
  }
}

/** What the hub tells by the agent's token, or why it does not. */
async function asking(ask: () => Promise<object>): Promise<LocalAnswer> {
  try {
    return { status: 200, body: JSON.stringify(await ask()) };
  } catch (error) {
    return failure(502, (error as Error).message);
  }
}

const failure = (status: number, message: string): LocalAnswer => ({
  status,
  body: JSON.stringify({ message }),
});

/** Follows before it looks back, so that nothing falls between. */
function events(journal: Journal): AsyncIterable<string> {
  const followed = journal.follow()[Symbol.asyncIterator]();
  const past = [...journal.last];
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const record = past.shift();
        if (record) return { done: false, value: JSON.stringify(record) };
        const next = await followed.next();
        return next.done
          ? { done: true, value: undefined }
          : { done: false, value: JSON.stringify(next.value) };
      },
      async return() {
        await followed.return?.();
        return { done: true, value: undefined };
      },
    }),
  };
}
