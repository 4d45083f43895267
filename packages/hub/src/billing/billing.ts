/**
 * Everything the hub does with money goes through here, and only here does the hub meet the ledger. Accounts:
 * `user:<id>` (consumer and provider alike), `hub:fees`, `hub:signup`, `hub:treasury`, `budget:<key id>`.
 *
 * A settlement that the database cannot take now is kept and tried again until its hold would have expired: the
 * answer was delivered, the provider is owed.
 */
import type { Ledger, Rider } from "@gfe/ledger";
import { GfeError } from "@gfe/protocol";

export const FEES_ACCOUNT = "hub:fees";
export const SIGNUP_ACCOUNT = "hub:signup";
export const TREASURY_ACCOUNT = "hub:treasury";
export const userAccount = (userId: string): string => `user:${userId}`;

/** Settlements waiting for the database; above it, new holds are refused. */
export const SETTLEMENT_BACKLOG_MAX = 20_000;
/** How long a granted hold speaks for the next, and for how many accounts that is remembered. */
const GRANT_SPEAKS_MS = 60_000;
const GRANTS_REMEMBERED = 10_000;
/** Holds of one account being written at once that a grant speaks for: what it could make nodes do for nothing. */
const UNWRITTEN_MAX = 256;
const RETRY_DELAY_MS = { first: 50, max: 5_000 };
/** For a hold to be durable; its caller is told that the ledger does not answer then, and it is undone. */
export const HOLD_WAIT_MS = 5_000;
/** How long a hold that was told to have failed may still turn up: its statement may be on its way as long. */
const LATE_HOLD_MS = 120_000;
/** Between two looks for it, at most; and how many are looked for at once: beyond them a hold is left to its expiry. */
const UNDO_DELAY_MS_MAX = 20_000;
const UNDOING_MAX = 20_000;

export interface HoldRequest {
  jobId: string;
  account: string;
  budgetAccount?: string | undefined;
  amountMicro: bigint;
  expiresAt: Date;
  rider: Rider;
  /** Goes with the undoing of a hold that its caller was told had failed, and that turned out to be there. */
  undone: Rider;
}

/** What one node of a job is owed, and the house for it. */
export interface Payment {
  providerId: string;
  providerMicro: bigint;
  feeMicro: bigint;
}

export interface Settlement {
  jobId: string;
  /** In the order of what they delivered; mostly one. */
  payments: Payment[];
  rider: Rider;
  /** When there is no use in trying any longer. */
  giveUpAt: Date;
}

export interface Billing {
  /** Reserves the cap of a job. Throws insufficient_quota, budget_exceeded or overloaded; nothing is held then. */
  hold(request: HoldRequest): Promise<void>;
  /** Whether a hold on this account will most likely be granted: its last one was, a short while ago. */
  expectsGrant(account: string): boolean;
  /** Pays providers and fee, returns the rest; charges nothing when nothing is owed. Resolves when durable or given up. */
  settle(settlement: Settlement): Promise<"settled" | "already_resolved" | "given_up">;
  /** Whether this hub still sees to the hold of a job: it runs, or its settlement is on its way. */
  keeps(jobId: string): boolean;
  /** Settlements not yet durable. */
  backlog(): number;
}

export interface BillingOptions {
  ledger: Ledger;
  /** Holds and settlements are given up on this clock: one that goes on evenly, whatever the wall clock does. */
  now: () => number;
  random: () => number;
  log: { warn(fields: object, message: string): void; error(fields: object, message: string): void };
}

export function createBilling({ ledger, now, random, log }: BillingOptions): Billing {
  let waiting = 0;
  let undoing = 0;
  const granted = new Map<string, number>(); // account → until
  const unwritten = new Map<string, number>();
  const kept = new Map<string, number>(); // job → until its hold may expire, on the clock of `now`

  async function hold(request: HoldRequest): Promise<void> {
    const { account } = request;
    unwritten.set(account, (unwritten.get(account) ?? 0) + 1);
    try {
      await holdOnce(request);
      granted.delete(account);
      granted.set(account, now() + GRANT_SPEAKS_MS);
      if (granted.size > GRANTS_REMEMBERED) granted.delete(granted.keys().next().value!);
    } catch (error) {
      granted.delete(account);
      throw error;
    } finally {
      const left = unwritten.get(account)! - 1;
      if (left > 0) unwritten.set(account, left);
      else unwritten.delete(account);
    }
  }

  async function holdOnce(request: HoldRequest): Promise<void> {
    if (waiting > SETTLEMENT_BACKLOG_MAX) throw new GfeError("overloaded", undefined, { retryAfterS: 5 });
    kept.set(request.jobId, request.expiresAt.getTime());
    const answer = ledger.hold({
      id: request.jobId,
      account: request.account,
      amount: request.amountMicro,
      expiresAt: request.expiresAt,
      rider: request.rider,
      ...(request.budgetAccount === undefined ? {} : { budget: request.budgetAccount }),
    });
    const result = await inTime(answer).catch((cause: unknown) => {
      void undo(request);
      throw new GfeError("overloaded", "The ledger does not answer; try again shortly", {
        retryAfterS: 2,
        cause,
      });
    });
    if (result === "created" || result === "exists") return;
    kept.delete(request.jobId);
    switch (result) {
      case "exceeds_credits":
        throw new GfeError(
          "insufficient_quota",
          "Not enough credit for this request: add credit or lower max_tokens",
        );
      case "exceeds_budget":
        throw new GfeError("budget_exceeded", "This request would exceed the budget of this API key");
      case "overloaded":
        throw new GfeError("overloaded", undefined, { retryAfterS: 2 });
      default:
        throw new Error(`hold of ${request.jobId} was answered ${result}`);
    }
  }

  /** Voids a hold of which nobody knows whether it is there, until it is surely not. Never rejects. */
  async function undo({ jobId, undone, expiresAt }: HoldRequest): Promise<void> {
    undoing++;
    const lateUntilMs = performance.now() + LATE_HOLD_MS;
    for (
      let delayMs = RETRY_DELAY_MS.first;
      undoing <= UNDOING_MAX;
      delayMs = Math.min(delayMs * 2, UNDO_DELAY_MS_MAX)
    ) {
      const result = await ledger
        .void({ holdId: jobId, reason: "unconfirmed", rider: undone })
        .catch(() => "unknown" as const);
      const isOpen = result === "unknown" || result === "overloaded";
      if (result === "hold_not_found" ? performance.now() > lateUntilMs : !isOpen) break;
      if (now() > expiresAt.getTime()) break; // it expires by itself
      await new Promise((resolve) => setTimeout(resolve, delayMs * (0.5 + random())).unref());
    }
    kept.delete(jobId);
    undoing--;
  }

  async function settleOnce({
    jobId,
    payments,
    rider,
  }: Settlement): Promise<"settled" | "already_resolved" | "retry"> {
    const feeMicro = payments.reduce((sum, payment) => sum + payment.feeMicro, 0n);
    const transfers = [
      ...payments.map(({ providerId, providerMicro: amount }, index) => ({
        id: index === 0 ? `${jobId}:pay` : `${jobId}:pay:${index + 1}`,
        ...{ to: userAccount(providerId), amount, code: "inference" },
      })),
      { id: `${jobId}:fee`, to: FEES_ACCOUNT, amount: feeMicro, code: "fee" },
    ].filter(({ amount }) => amount > 0n);
    if (transfers.length === 0) {
      const result = await ledger.void({ holdId: jobId, reason: "nothing_owed", rider });
      return result === "overloaded"
        ? "retry"
        : result === "voided" || result === "exists"
          ? "settled"
          : "already_resolved";
    }
    const result = await ledger.settle({ holdId: jobId, transfers, rider });
    return result === "overloaded"
      ? "retry"
      : result === "settled" || result === "exists"
        ? "settled"
        : "already_resolved";
  }

  async function settle(settlement: Settlement): Promise<"settled" | "already_resolved" | "given_up"> {
    waiting++;
    try {
      for (let delayMs = RETRY_DELAY_MS.first; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS.max)) {
        try {
          const result = await settleOnce(settlement);
          if (result === "already_resolved")
            log.error({ job: settlement.jobId }, "settlement found its hold resolved");
          if (result !== "retry") return result;
        } catch (error) {
          log.warn({ job: settlement.jobId, error: String(error) }, "settlement will be tried again");
        }
        if (now() > settlement.giveUpAt.getTime()) return "given_up";
        await new Promise((resolve) => setTimeout(resolve, delayMs * (0.5 + random())));
      }
    } finally {
      kept.delete(settlement.jobId);
      waiting--;
    }
  }

  function keeps(jobId: string): boolean {
    const untilMs = kept.get(jobId) ?? Number.NEGATIVE_INFINITY;
    if (untilMs > now()) return true;
    kept.delete(jobId);
    return false;
  }

  const expectsGrant = (account: string) =>
    (granted.get(account) ?? 0) > now() && (unwritten.get(account) ?? 0) <= UNWRITTEN_MAX;

  return { hold, expectsGrant, settle, keeps, backlog: () => waiting };
}

/** The same, or a rejection where it takes longer than HOLD_WAIT_MS. */
function inTime<T>(promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${HOLD_WAIT_MS} ms`)), HOLD_WAIT_MS);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
