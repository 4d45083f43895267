/** A standing in words: what each part is made of, and what would raise it. Pure. */
import {
  type Counters,
  DISPUTED,
  HALF_LIFE_MS,
  NEWCOMER_SUCCESSES,
  type Parts,
  type Standing,
} from "./score.ts";

export interface ExplainedPart {
  name: keyof Parts;
  /** 0 … 1. */
  value: number;
  /** In the sum; 1 of what multiplies it. */
  weight: number;
  multiplies: boolean;
  evidence: string;
}

export const FORMULA =
  "100 · audits · disputes · (0.5 success + 0.2 uptime + 0.3 speed); events halve in weight every 7 days";

/** Parts below this are worth a word on how to raise them. */
const GOOD_ENOUGH = 0.95;

const reasonWords: Record<string, string> = {
  engine_failed: "the engine failed",
  node_lost: "the connection was lost in the middle of a job",
  first_token_timeout: "no first token came in time",
  stalled: "the answer stalled",
  no_slot: "a slot that was announced was busy",
  total_timeout: "nothing came in the whole time",
  overclaimed: "more tokens were claimed than the bytes delivered can hold",
  receipt_invalid: "a receipt's signature, node or attempt was wrong",
  receipt_disagrees: "a receipt disagrees with the bytes delivered",
  digest_differs: "a receipt names another model than the one announced",
  canary: "a canary prompt failed twice in a row",
  disputed_empty: "a consumer disputed an answer as empty",
  disputed_gibberish: "a consumer disputed an answer as gibberish",
  disputed_wrong_model: "a consumer disputed an answer as another model's",
  disputed_cut_off: "a consumer disputed an answer as cut off",
  disputed_other: "a consumer disputed an answer",
};

export const wordsOf = (reason: string): string => reasonWords[reason] ?? reason.replaceAll("_", " ");

export function explained(
  { parts, newcomer }: Standing,
  model: Counters | undefined,
  node: Counters | undefined,
  atMs: number,
): { parts: ExplainedPart[]; reasons: { reason: string; words: string; weight: number }[]; raise: string[] } {
  const factor = 2 ** (-Math.max(0, atMs - (model?.atMs ?? atMs)) / HALF_LIFE_MS);
  const ofModel = (name: "ok" | "all" | "pass" | "fail") => rounded((model?.[name] ?? 0) * factor);
  const watched = node?.watchedDays ?? 0;
  const uptime = watched > 0 ? Math.round((100 * node!.connectedDays) / watched) : null;
  const reasons = Object.entries(model?.reasons ?? {})
    .map(([reason, weight]) => ({ reason, words: wordsOf(reason), weight: rounded(weight * factor) }))
    .filter(({ weight }) => weight > 0)
    .sort((a, b) => b.weight - a.weight);
  const upheld = (model?.disputesOpen ?? 0) + (node?.disputesOpen ?? 0);
  const disputed = rounded((model?.disputed ?? 0) * factor);
  const worst = reasons.find(({ reason }) => !reason.startsWith(DISPUTED));
  return {
    parts: [
      {
        name: "success",
        value: parts.success,
        weight: 0.5,
        multiplies: false,
        evidence: `${ofModel("ok")} of ${ofModel("all")} jobs ended as asked`,
      },
      {
        name: "uptime",
        value: parts.uptime,
        weight: 0.2,
        multiplies: false,
        evidence: uptime === null ? "not watched yet" : `connected ${uptime} % of the time watched`,
      },
      {
        name: "speed",
        value: parts.speed,
        weight: 0.3,
        multiplies: false,
        evidence: "tokens/s and time to the first token against what was promised, or was usual",
      },
      {
        name: "disputes",
        value: parts.disputes,
        weight: 1,
        multiplies: true,
        evidence:
          upheld > 0
            ? `${upheld} upheld disputes are open`
            : disputed > 0
              ? `consumers dispute answers, with a weight of ${disputed} beside ${ofModel("ok")} jobs`
              : "no consumer disputes an answer",
      },
      {
        name: "audits",
        value: parts.audits,
        weight: 1,
        multiplies: true,
        evidence: `${ofModel("pass")} checks passed, ${ofModel("fail")} failed`,
      },
    ],
    reasons,
    raise: raiseOf(parts, newcomer, model, upheld > 0, worst?.words),
  };
}

function raiseOf(
  parts: Parts,
  newcomer: boolean,
  model: Counters | undefined,
  upheld: boolean,
  worst: string | undefined,
): string[] {
  const raise: string[] = [];
  if (upheld) raise.push("Close the upheld dispute: the score is 0 until then.");
  else if (parts.disputes < GOOD_ENOUGH)
    raise.push(
      "Answer so that nobody disputes it: disputes fade by half every 7 days, and beside more jobs.",
    );
  if (newcomer)
    raise.push(
      `Complete ${NEWCOMER_SUCCESSES - (model?.successes ?? 0)} more jobs to be no newcomer any more.`,
    );
  if (parts.success < GOOD_ENOUGH)
    raise.push(worst ? `Complete jobs without failures; most often ${worst}.` : "Complete jobs.");
  if (parts.uptime < GOOD_ENOUGH) raise.push("Stay connected.");
  if (parts.speed < GOOD_ENOUGH)
    raise.push("Answer as fast as promised: fewer slots, or a promise that the machine can keep.");
  if (parts.audits < GOOD_ENOUGH)
    raise.push(
      (model?.fail ?? 0) > 0
        ? "Pass checks: sign what was delivered, with the model that was announced. A failed one fades by half every 7 days."
        : "Pass checks: canary prompts come by themselves.",
    );
  return raise;
}

const rounded = (value: number): number => Math.round(value * 10) / 10;
