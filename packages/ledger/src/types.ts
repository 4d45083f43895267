/** Made by the caller: `user:abc`, `hub:fees`. */
export type AccountId = string;
/** consumer: never below zero. system: may be negative; where credits enter and leave. */
export type AccountKind = "consumer" | "system";

/**
 * A row that commits if and only if its operation was applied. The SQL function `ledger_rider`, which whoever has
 * riders replaces, is called once a batch for each `fn` with the rows and which of them were applied.
 */
export interface Rider {
  fn: string;
  /** `n` is the batch's own. */
  row: Record<string, unknown> & { n?: never };
}

export interface HoldOp {
  id: string;
  account: AccountId;
  /** Micro-credits, not negative. */
  amount: bigint;
  expiresAt: Date;
  budget?: string;
  rider?: Rider;
}
export type HoldResult =
  | "created"
  | "exists"
  | "exists_with_different_account"
  | "exists_with_different_amount"
  | "exists_with_different_budget"
  | "account_not_found"
  | "account_cannot_hold"
  | "budget_not_found"
  | "exceeds_credits"
  | "exceeds_budget"
  | "overloaded";

export interface SettleOp {
  holdId: string;
  /** Linked: all or none. Together at most the hold; the rest returns to its account. */
  transfers: { id: string; to: AccountId; amount: bigint; code: string }[];
  rider?: Rider;
}
type Unresolvable =
  | "hold_not_found"
  | "already_settled"
  | "already_voided"
  | "already_expired"
  | "overloaded";
export type SettleResult =
  | "settled"
  | "exists"
  | "exists_with_different_amount"
  | "exceeds_hold"
  | "account_not_found"
  | "same_account"
  | "transfer_exists"
  | Unresolvable;

export interface VoidOp {
  holdId: string;
  reason: string;
  rider?: Rider;
}
export type VoidResult = "voided" | "exists" | Unresolvable;

export interface TransferOp {
  id: string;
  from: AccountId;
  to: AccountId;
  /** Micro-credits, above zero. */
  amount: bigint;
  code: string;
  reference?: string;
}
export type TransferResult =
  | "created"
  | "exists"
  | "exists_in_part"
  | "exists_with_different_account"
  | "exists_with_different_amount"
  | "exists_with_different_code"
  | "account_not_found"
  | "same_account"
  | "exceeds_credits"
  | "overloaded";

export interface Balance {
  posted: bigint;
  held: bigint;
  available: bigint;
}

export interface Entry {
  id: string;
  /** Position in the account's history: pass it as `before` for the next page. */
  cursor: string;
  /** Signed: negative leaves the account. */
  amount: bigint;
  counterparty: AccountId;
  code: string;
  reference: string | null;
  createdAt: Date;
}

export interface Verdict {
  ok: boolean;
  checks: { name: string; ok: boolean; detail: string }[];
}

export interface Ledger {
  /** Opens accounts that do not exist yet. */
  openAccounts(accounts: { id: AccountId; kind: AccountKind }[]): Promise<void>;
  /** Sets the bound on what may be spent through a budget; null removes it. */
  setBudget(id: string, limit: bigint | null): Promise<void>;
  budgets(ids: string[]): Promise<Map<string, { limit: bigint; spent: bigint; held: bigint }>>;
  hold(op: HoldOp): Promise<HoldResult>;
  settle(op: SettleOp): Promise<SettleResult>;
  void(op: VoidOp): Promise<VoidResult>;
  transfer(op: TransferOp): Promise<TransferResult>;
  /** All or none. */
  transferLinked(ops: TransferOp[]): Promise<TransferResult>;
  /**
   * Resolves open holds whose time is up, at most `limit`; returns their ids. `spared` is given those whose time is up and
   * names the ones to leave alone.
   */
  expireHolds(
    now: Date,
    limit: number,
    rider?: (holdId: string) => Rider,
    spared?: (holdIds: string[]) => Promise<ReadonlySet<string>>,
  ): Promise<string[]>;
  balance(id: AccountId): Promise<Balance | null>;
  /** Newest first. */
  entries(id: AccountId, page: { before?: string; limit: number }): Promise<Entry[]>;
  openHolds(): Promise<{ id: string; account: AccountId; amount: bigint; expiresAt: Date }[]>;
  /** Recomputes every invariant from the rows. */
  verify(): Promise<Verdict>;
  /** Resolves when everything queued so far is answered. */
  flush(): Promise<void>;
}
