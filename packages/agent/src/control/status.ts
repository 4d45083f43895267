/**
 * What a running agent tells its owner, as plain JSON: all that commands and the panel read. Another version's agent may
 * say more or less; what is missing has a value that says so.
 */
import { z } from "zod";
import { durationText } from "../panel/text.ts";
import { SANDBOX_KINDS } from "../sandbox/sandbox.ts";
import { limitsSchema, scheduleSchema, storedPauseWhenSchema } from "./owner.ts";

/** Decimal strings of micro-credits, as everywhere on the wire. */
const micro = z.string().regex(/^-?\d{1,30}$/);

const earningsSchema = z.object({
  /** Net, since midnight UTC. */
  today_micro: micro,
  jobs_today: z.number(),
  /** Net, of the last 60 minutes: the rate. */
  hour_micro: micro,
  since_start_micro: micro,
  /** What the account can spend or have paid out. */
  available_micro: micro,
  asked_at_ms: z.number(),
});

export const connectionSchema = z.object({
  state: z.enum(["connecting", "joined", "waiting"]),
  since_ms: z.number(),
  /** Why it is not joined, in the words of whoever refused. */
  problem: z.string().nullable(),
  retry_at_ms: z.number().nullable(),
});
export type AgentConnection = z.infer<typeof connectionSchema>;

const offerSchema = z.object({
  model: z.string(),
  slots: z.number(),
  running: z.number(),
  engine: z.string(),
});

const speedSchema = z.object({
  model: z.string(),
  engine: z.string(),
  ttft_ms: z.number(),
  tokens_s: z.number().nullable(),
});

const attemptSchema = z.object({
  attempt: z.string(),
  model: z.string(),
  started_at_ms: z.number(),
  tokens: z.number(),
  /** Since the first token; null before the second. */
  tokens_s: z.number().nullable(),
});

const engineSchema = z.object({
  kind: z.string(),
  label: z.string(),
  models: z.number(),
  error: z.string().nullable(),
  /** What is assumed of it, for it does not tell. */
  notes: z.array(z.string()).default([]),
  /** What the built-in engine computes with; null of others. */
  compute: z
    .object({
      device: z.string(),
      gpu_layers: z.number(),
      layers: z.number(),
      gpu_memory_bytes: z.number(),
      memory_bytes: z.number(),
    })
    .nullable()
    .default(null),
});

/** A model that is kept back until a probe of it works. */
const withdrawnSchema = z.object({
  model: z.string(),
  engine: z.string(),
  code: z.string(),
  reason: z.string(),
  /** Null while the probe runs. */
  retry_in_ms: z.number().nullable(),
});

const gpuSchema = z.object({
  name: z.string(),
  load_percent: z.number().nullable(),
  memory_used_bytes: z.number().nullable(),
  memory_bytes: z.number().nullable(),
  temperature_c: z.number().nullable(),
  power_w: z.number().nullable(),
});
export type GpuReading = z.infer<typeof gpuSchema>;

/** Why a node does not serve, though it could. */
const reasonSchema = z.object({ code: z.string(), message: z.string(), until_ms: z.number().optional() });

const sandboxSchema = z.object({
  kind: z.enum(SANDBOX_KINDS),
  program: z.string(),
  network: z.string(),
  files: z.string(),
  memory: z.string(),
  processes: z.string(),
  seccomp: z.string(),
  gpu: z.string(),
  problems: z.array(z.object({ what: z.string(), cure: z.string() })),
});

export const agentStatusSchema = z.object({
  version: z.string(),
  process_id: z.number(),
  started_at_ms: z.number(),
  now_ms: z.number(),
  name: z.string(),
  hub: z.string(),
  node_id: z.string().nullable(),
  connection: connectionSchema,
  draining: z.boolean(),
  /** Answers at once, over all models. */
  slots: z.number(),
  engines: z.array(engineSchema),
  offers: z.array(offerSchema),
  withdrawn: z.array(withdrawnSchema).default([]),
  attempts: z.array(attemptSchema),
  /** Of the models that were measured at joining. */
  speeds: z.array(speedSchema).default([]),
  /** It measures them now, and joins then. */
  measuring: z.boolean().default(false),
  /** Empty while it serves. */
  paused: z.array(reasonSchema).default([]),
  limits: limitsSchema.partial().default({}),
  schedule: scheduleSchema.default({ on: true, windows: [] }),
  pause_when: storedPauseWhenSchema.prefault({}),
  gpus: z.array(gpuSchema).default([]),
  /** Since the start. */
  served: z.object({
    done: z.number(),
    failed: z.number(),
    input_tokens: z.number(),
    output_tokens: z.number(),
  }),
  /** What confines the engines that it started; null where it started none. */
  sandbox: sandboxSchema.nullable().default(null),
  /** Null until the hub has told. */
  earnings: earningsSchema.nullable().default(null),
  /** Requests that wait at the hub for models of this node; null where the hub does not tell. */
  waiting: z.number().nullable().default(null),
});
export type AgentStatus = z.infer<typeof agentStatusSchema>;

/** Where an agent stands, for people. */
export interface Standing {
  state: "serving" | "idle" | "paused" | "offline" | "draining";
  /** Why, and what to do, in a sentence. */
  words: string;
}

/** The one state that matters most, with its reason in plain words. */
export function standingOf(status: AgentStatus): Standing {
  const { connection, draining, offers, attempts, engines, withdrawn, paused, now_ms } = status;
  if (draining)
    return {
      state: "draining",
      words:
        attempts.length > 0 ? `letting ${counted(attempts.length, "answer")} end, then leaving` : "leaving",
    };
  if (connection.state === "connecting" && status.measuring)
    return { state: "idle", words: "measuring how fast its models are, then joining" };
  if (connection.state !== "joined") {
    const seconds = connection.retry_at_ms === null ? 0 : Math.max(0, connection.retry_at_ms - now_ms) / 1000;
    const again = seconds >= 1 ? `; trying again in ${Math.ceil(seconds)} s` : "; trying now";
    return { state: "offline", words: `the hub is not reached${because(connection.problem)}${again}` };
  }
  const [reason] = paused;
  if (reason) return { state: "paused", words: pausedWords(reason, now_ms) };
  if (offers.length === 0) {
    const [kept] = withdrawn;
    if (kept) return { state: "idle", words: `nothing to offer: ${kept.model} is kept back, ${kept.reason}` };
    const broken = engines.find(({ error }) => error !== null);
    return {
      state: "idle",
      words: broken
        ? `nothing to offer: ${broken.kind} at ${broken.label} does not answer${because(broken.error)}`
        : engines.length > 0
          ? "nothing to offer: the engines have no models; pull one, such as `ollama pull llama3.2:1b`"
          : "nothing to offer: no engine was found; start Ollama or another one",
    };
  }
  return attempts.length > 0
    ? { state: "serving", words: `${counted(attempts.length, "answer")} running` }
    : { state: "serving", words: "waiting for work" };
}

function pausedWords({ message, until_ms }: z.infer<typeof reasonSchema>, nowMs: number): string {
  return until_ms === undefined ? message : `${message}; for ${durationText(until_ms - nowMs)} more`;
}

const because = (problem: string | null): string => (problem ? ` (${problem})` : "");

/** "1 answer", "2 answers". */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;
