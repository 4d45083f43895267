/** What this node earned, as its hub has it in the books: asked only while somebody looks, and only after something changed. */
import { nodeEarningsSchema } from "@gfe/protocol";
import { askHub, type HubCall } from "./hub-api.ts";

const EARNINGS_LIMITS = {
  /** Between two questions while attempts end. */
  everyMs: 3_000,
  /** While nothing ends: another node of the account may earn, and the hour goes on. */
  idleMs: 60_000,
  /** A hub that takes long is asked so much less often. */
  restPerAsk: 50,
  /** An attempt is paid by then. */
  settledMs: 1_500,
  /** Who has not looked for this long looks no more. */
  lookedMs: 20_000,
} as const;

export interface Earned {
  todayMicro: string;
  jobsToday: number;
  hourMicro: string;
  sinceStartMicro: string;
  availableMicro: string;
  waiting: number;
  askedAtMs: number;
}

export interface Earnings {
  /** What was told last, null before; asks anew in the background where that is due. */
  look(nodeId: string): Earned | null;
  /** An attempt has ended: its pay is in the books a moment later. */
  changed(): void;
  close(): void;
}

export function createEarnings(call: HubCall, onTold: () => void = () => {}): Earnings {
  const { host } = call;
  const startedMs = host.nowMs();
  let told: Earned | null = null;
  let asking = false;
  let nodeId: string | null = null;
  let lookedMs = Number.NEGATIVE_INFINITY;
  let dueMs = 0;
  let restUntilMs = 0;
  let callOff = () => {};

  async function ask(): Promise<void> {
    const askedAtMs = host.nowMs();
    dueMs = askedAtMs + EARNINGS_LIMITS.idleMs;
    restUntilMs = askedAtMs + EARNINGS_LIMITS.everyMs;
    const since = encodeURIComponent(new Date(startedMs).toISOString());
    const answer = await askHub(call, `/api/v1/nodes/${encodeURIComponent(nodeId!)}/earnings?since=${since}`);
    restUntilMs = Math.max(restUntilMs, askedAtMs + answer.tookMs * EARNINGS_LIMITS.restPerAsk);
    const earned = nodeEarningsSchema.safeParse(answer.body);
    if (answer.status !== 200 || !earned.success) return; // an older hub, or one in trouble
    const { data } = earned;
    told = {
      ...{ todayMicro: data.today_micro, jobsToday: data.jobs_today, hourMicro: data.hour_micro },
      ...{ sinceStartMicro: data.since_micro, availableMicro: data.available_micro, waiting: data.waiting },
      askedAtMs,
    };
    onTold();
  }

  /** Asks when it is due, as long as somebody looks. */
  function plan(): void {
    callOff();
    const nowMs = host.nowMs();
    if (asking || nodeId === null || nowMs - lookedMs > EARNINGS_LIMITS.lookedMs) return;
    const inMs = Math.max(dueMs, restUntilMs) - nowMs;
    if (inMs > 0) {
      callOff = host.after(inMs, plan);
      return;
    }
    asking = true;
    void ask()
      .catch(() => {})
      .finally(() => {
        asking = false;
      });
  }

  return {
    look(id) {
      nodeId = id;
      lookedMs = host.nowMs();
      plan();
      return told;
    },
    changed() {
      dueMs = Math.min(dueMs, host.nowMs() + EARNINGS_LIMITS.settledMs);
      plan();
    },
    close() {
      nodeId = null;
      callOff();
    },
  };
}
