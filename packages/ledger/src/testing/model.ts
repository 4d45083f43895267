/** The ledger as a few maps: what the real one must agree with, operation by operation. */
import type {
  HoldOp,
  HoldResult,
  SettleOp,
  SettleResult,
  TransferOp,
  TransferResult,
  VoidResult,
} from "../types.ts";

interface ModelHold extends HoldOp {
  state: "open" | "settled" | "voided" | "expired";
  settled: bigint;
}

export class ModelLedger {
  readonly consumers = new Map<string, { posted: bigint; held: bigint }>();
  readonly systems = new Map<string, bigint>();
  readonly holds = new Map<string, ModelHold>();
  readonly transfers = new Map<string, TransferOp>();

  open(id: string, kind: "consumer" | "system"): void {
    if (kind === "consumer") this.consumers.set(id, { posted: 0n, held: 0n });
    else this.systems.set(id, 0n);
  }

  hold(op: HoldOp): HoldResult {
    const known = this.holds.get(op.id);
    if (known) {
      if (known.account !== op.account) return "exists_with_different_account";
      return known.amount === op.amount ? "exists" : "exists_with_different_amount";
    }
    const account = this.consumers.get(op.account);
    if (!account) return this.systems.has(op.account) ? "account_cannot_hold" : "account_not_found";
    if (op.amount > account.posted - account.held) return "exceeds_credits";
    account.held += op.amount;
    this.holds.set(op.id, { ...op, state: "open", settled: 0n });
    return "created";
  }

  settle({ holdId, transfers }: SettleOp): SettleResult {
    const total = transfers.reduce((sum, { amount }) => sum + amount, 0n);
    const hold = this.holds.get(holdId);
    if (!hold) return "hold_not_found";
    if (hold.state === "settled") return hold.settled === total ? "exists" : "exists_with_different_amount";
    if (hold.state !== "open") return `already_${hold.state}`;
    if (total > hold.amount) return "exceeds_hold";
    if (transfers.some(({ to }) => !this.consumers.has(to) && !this.systems.has(to)))
      return "account_not_found";
    if (transfers.some(({ to }) => to === hold.account)) return "same_account";
    if (transfers.some(({ id }) => this.transfers.has(id))) return "transfer_exists";
    this.#release(hold, "settled", total);
    for (const transfer of transfers) this.#move({ ...transfer, from: hold.account });
    return "settled";
  }

  void(holdId: string): VoidResult {
    const hold = this.holds.get(holdId);
    if (!hold) return "hold_not_found";
    if (hold.state === "voided") return "exists";
    if (hold.state !== "open") return `already_${hold.state}`;
    this.#release(hold, "voided", 0n);
    return "voided";
  }

  transfer(op: TransferOp): TransferResult {
    const known = this.transfers.get(op.id);
    if (known) {
      if (known.from !== op.from || known.to !== op.to) return "exists_with_different_account";
      if (known.amount !== op.amount) return "exists_with_different_amount";
      return known.code === op.code ? "exists" : "exists_with_different_code";
    }
    if (op.from === op.to) return "same_account";
    if (![op.from, op.to].every((id) => this.consumers.has(id) || this.systems.has(id)))
      return "account_not_found";
    const from = this.consumers.get(op.from);
    if (from && op.amount > from.posted - from.held) return "exceeds_credits";
    this.#move(op);
    return "created";
  }

  #release(hold: ModelHold, state: ModelHold["state"], settled: bigint): void {
    hold.state = state;
    hold.settled = settled;
    this.consumers.get(hold.account)!.held -= hold.amount;
  }

  #move(op: TransferOp): void {
    this.transfers.set(op.id, op);
    this.#add(op.from, -op.amount);
    this.#add(op.to, op.amount);
  }

  #add(id: string, amount: bigint): void {
    const consumer = this.consumers.get(id);
    if (consumer) consumer.posted += amount;
    else this.systems.set(id, this.systems.get(id)! + amount);
  }
}
