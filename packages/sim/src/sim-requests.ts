/** What consumers of the simulation ask, how they leave, and what they were told. */
import { STORY } from "./honest-node.ts";
import type { Random } from "./random.ts";

const KINDS = {
  "chat, streamed": 40,
  "chat, whole": 25,
  "completion, streamed": 8,
  "completion, whole": 7,
  embedding: 10,
  "unknown model": 4,
  "bad body": 3,
} as const;
type Kind = keyof typeof KINDS;

const MAX_TOKENS = 30;
const ABORT_MS_MAX = 60;
/** Above every timeout of the hub together: an answer that takes longer was forgotten. */
const FORGOTTEN_MS = 30_000;

/** All of it is decided before it is sent, so that a seed makes the same requests in whatever order they run. */
export interface Plan {
  consumer: number;
  kind: Kind;
  model: string;
  maxTokens: number;
  promptBytes: number;
  /** After this many milliseconds the caller hangs up; null for one that stays. */
  abortMs: number | null;
}

export function planRequest(random: Random, consumers: number, models: readonly string[]): Plan {
  return {
    consumer: random.int(0, consumers - 1),
    kind: random.weighted(KINDS),
    model: random.pick(models),
    maxTokens: random.int(1, MAX_TOKENS),
    promptBytes: random.int(1, 400),
    abortMs: random.chance(0.15) ? random.int(0, ABORT_MS_MAX) : null,
  };
}

/** What the caller saw. */
export interface Seen {
  /** `completed`, `caller left` or the code of the error. */
  outcome: string;
  /** What the answer said it cost, where it said so. */
  told: { jobId: string; costMicro: string; outputTokens: number } | null;
  /** What must not be, in words. */
  problems: string[];
}

export async function sendRequest(hubUrl: string, key: string, plan: Plan): Promise<Seen> {
  const { path, body } = requestOf(plan);
  const forgotten = AbortSignal.timeout(FORGOTTEN_MS);
  const hangUp = plan.abortMs === null ? null : AbortSignal.timeout(plan.abortMs);
  try {
    const response = await fetch(hubUrl + path, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: hangUp ? AbortSignal.any([hangUp, forgotten]) : forgotten,
    });
    return seenIn(response, await response.text(), plan);
  } catch (error) {
    if (hangUp?.aborted) return { outcome: "caller left", told: null, problems: [] };
    const problem = forgotten.aborted ? "a request was forgotten" : `a connection broke: ${String(error)}`;
    return { outcome: "broken", told: null, problems: [problem] };
  }
}

function requestOf(plan: Plan): { path: string; body: object } {
  const prompt = "p".repeat(plan.promptBytes);
  const common = { model: plan.kind === "unknown model" ? "nobody-has-this" : plan.model };
  if (plan.kind === "embedding") return { path: "/v1/embeddings", body: { ...common, input: [prompt, "x"] } };
  const bounded = { ...common, max_tokens: plan.maxTokens };
  const streamed = plan.kind.endsWith("streamed")
    ? { stream: true, stream_options: { include_usage: true } }
    : {};
  if (plan.kind.startsWith("completion"))
    return { path: "/v1/completions", body: { ...bounded, ...streamed, prompt } };
  const content = plan.kind === "bad body" ? 5 : prompt;
  return {
    path: "/v1/chat/completions",
    body: { ...bounded, ...streamed, messages: [{ role: "user", content }] },
  };
}

interface Tail {
  error?: { code: string };
  usage?: { completion_tokens?: number };
  x_gfe?: { job_id: string; cost_micro: string; nodes: string[] };
}

function seenIn(response: Response, text: string, plan: Plan): Seen {
  const problems: string[] = [];
  if (response.status === 500) problems.push(`a request was answered 500: ${text}`);
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  const tail = isStream ? lastOf(text) : (JSON.parse(text) as Tail);
  if (!tail) problems.push("a stream ended with neither [DONE] nor an error");
  const outcome = tail?.error?.code ?? "completed";
  if (outcome === "internal") problems.push("a job broke inside the hub");
  if (outcome === "completed" && (plan.kind === "unknown model" || plan.kind === "bad body"))
    problems.push(`${plan.kind} was answered`);
  if (outcome === "completed" && tail && !tail.x_gfe) problems.push("an answer did not say what it cost");
  // Rogues can't continue, so all of such an answer is the honest nodes' story.
  const goneOn = isStream && outcome === "completed" && (tail?.x_gfe?.nodes.length ?? 0) > 1;
  const wanted = STORY.slice(0, plan.maxTokens).join("");
  if (goneOn && saidIn(text) !== wanted) problems.push(`an answer in parts was ${saidIn(text)}`);
  return {
    outcome: goneOn ? "completed by several nodes" : outcome,
    told: tail?.x_gfe
      ? {
          jobId: tail.x_gfe.job_id,
          costMicro: tail.x_gfe.cost_micro,
          outputTokens: tail.usage?.completion_tokens ?? 0,
        }
      : null,
    problems,
  };
}

function saidIn(text: string): string {
  const chunks = text.split("\n\n").filter((line) => line.startsWith("data: {"));
  return chunks
    .flatMap((line) => (JSON.parse(line.slice(6)) as { choices?: Spoken[] }).choices ?? [])
    .map(({ text: said, delta }) => said ?? delta?.content ?? "")
    .join("");
}

interface Spoken {
  text?: string;
  delta?: { content?: string };
}

/** The usage chunk of a stream that ended well, the error chunk of one that did not; null where neither is there. */
function lastOf(text: string): Tail | null {
  const lines = text.split("\n\n").filter((line) => line.startsWith("data: "));
  const last = lines.at(-1);
  if (last === undefined) return null;
  if (last !== "data: [DONE]") {
    const tail = JSON.parse(last.slice(6)) as Tail;
    return tail.error ? tail : null;
  }
  return lines.length > 1 ? (JSON.parse(lines.at(-2)!.slice(6)) as Tail) : null;
}
