/** What the rest of the hub may read of the ledger, and the credits that enter it. */
import type { Balance, Entry, Ledger, Verdict } from "@gfe/ledger";
import { FEES_ACCOUNT, SIGNUP_ACCOUNT, TREASURY_ACCOUNT, userAccount } from "./billing.ts";

export const budgetOf = (keyId: string): string => `key:${keyId}`;

export interface Books {
  balance(userId: string): Promise<Balance>;
  entries(userId: string, page: { before?: string; limit: number }): Promise<Entry[]>;
  verify(): Promise<Verdict>;
  setBudget(keyId: string, limitMicro: bigint | null): Promise<void>;
  /** What was spent through each key that has a budget. */
  spent(keyIds: string[]): Promise<Map<string, bigint>>;
  /** Opens a user's account and moves the signup credit into it; repeating it changes nothing. */
  grantSignup(userId: string, amountMicro: bigint): Promise<void>;
  /** Moves a provider's first credit into its account; repeating it changes nothing. */
  grantFirstCredit(userId: string, amountMicro: bigint): Promise<void>;
}

export async function createBooks(ledger: Ledger): Promise<Books> {
  await ledger.openAccounts([
    { id: FEES_ACCOUNT, kind: "system" },
    { id: SIGNUP_ACCOUNT, kind: "system" },
    { id: TREASURY_ACCOUNT, kind: "system" },
  ]);
  return {
    async balance(userId) {
      return (await ledger.balance(userAccount(userId))) ?? { posted: 0n, held: 0n, available: 0n };
    },
    entries: (userId, page) => ledger.entries(userAccount(userId), page),
    verify: () => ledger.verify(),
    setBudget: (keyId, limitMicro) => ledger.setBudget(budgetOf(keyId), limitMicro),
    async spent(keyIds) {
      const budgets = await ledger.budgets(keyIds.map(budgetOf));
      return new Map(keyIds.map((id) => [id, budgets.get(budgetOf(id))?.spent ?? 0n]));
    },
    async grantSignup(userId, amountMicro) {
      await ledger.openAccounts([{ id: userAccount(userId), kind: "consumer" }]);
      if (amountMicro === 0n) return;
      await give(SIGNUP_ACCOUNT, "signup", userId, amountMicro);
    },
    grantFirstCredit: (userId, amountMicro) => give(TREASURY_ACCOUNT, "first_credit", userId, amountMicro),
  };

  /** Once for a user and a code. */
  async function give(from: string, code: string, userId: string, amount: bigint): Promise<void> {
    const to = userAccount(userId);
    const result = await ledger.transfer({ id: `${code}:${userId}`, from, to, amount, code });
    if (result !== "created" && !result.startsWith("exists"))
      throw new Error(`the ${code} of ${userId} was answered ${result}`);
  }
}
