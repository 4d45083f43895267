/**
 * What must hold at every moment, checked after each step that wrote to the ledger, against the rows themselves and what
 * the simulation saw. The transfers are added up anew here, so that a wrong sum in the ledger shows.
 */
import type pg from "pg";
import type { Records, RequestRecord, Speech } from "./records.ts";

interface Account {
  id: string;
  kind: string;
  posted: string;
  held: string;
}
interface Transfer {
  seq: string;
  id: string;
  debit: string;
  credit: string;
  amount: string;
  code: string;
  hold_id: string | null;
}
interface Hold {
  id: string;
  account: string;
  amount: string;
  state: string;
  settled: string;
}
interface JobRow {
  id: string;
  state: string;
  consumer_id: string;
  cost_micro: string;
}
interface Budget {
  id: string;
  limit_micro: string;
  spent: string;
  held: string;
}

const STATE = `SELECT json_build_object(
  'accounts', (SELECT coalesce(json_agg(json_build_object('id', id, 'kind', kind, 'posted', posted::text, 'held', held::text)), '[]') FROM ledger_accounts),
  'transfers', (SELECT coalesce(json_agg(json_build_object('seq', seq::text, 'id', id, 'debit', debit, 'credit', credit, 'amount', amount::text,
    'code', code, 'hold_id', hold_id) ORDER BY seq), '[]') FROM ledger_transfers WHERE seq > $1),
  'holds', (SELECT coalesce(json_agg(json_build_object('id', id, 'account', account, 'amount', amount::text, 'state', state, 'settled', settled::text)), '[]') FROM ledger_holds),
  'jobs', (SELECT coalesce(json_agg(json_build_object('id', id, 'state', state, 'consumer_id', consumer_id, 'cost_micro', cost_micro::text)), '[]') FROM jobs),
  'budgets', (SELECT coalesce(json_agg(json_build_object('id', id, 'limit_micro', limit_micro::text, 'spent', spent::text, 'held', held::text)), '[]') FROM ledger_budgets)
) AS state`;

interface State {
  accounts: Account[];
  transfers: Transfer[];
  holds: Hold[];
  jobs: JobRow[];
  budgets: Budget[];
}

const FEES = "hub:fees";

export class Auditor {
  readonly #admin: pg.Pool;
  readonly #records: Records;
  #seq = "0";
  readonly #balances = new Map<string, bigint>();
  readonly #holds = new Map<string, Hold>();
  readonly #jobs = new Map<string, JobRow>();
  readonly #paid = new Map<string, Transfer[]>();

  constructor(admin: pg.Pool, records: Records) {
    this.#admin = admin;
    this.#records = records;
  }

  get jobs(): ReadonlyMap<string, { state: string; cost_micro: string }> {
    return this.#jobs;
  }

  openHolds(): number {
    return [...this.#holds.values()].filter(({ state }) => state === "open").length;
  }

  /** What is wrong now, in words; empty where nothing is. */
  async check(): Promise<string[]> {
    const { rows } = await this.#admin.query<{ state: State }>(STATE, [this.#seq]);
    const { accounts, transfers, holds, jobs, budgets } = rows[0]!.state;
    return [
      ...this.#checkTransfers(transfers),
      ...this.#checkBalances(accounts, holds),
      ...this.#checkHolds(holds),
      ...this.#checkJobs(jobs),
      ...budgets.flatMap(({ id, limit_micro, spent, held }) =>
        BigInt(spent) + BigInt(held) > BigInt(limit_micro) ? [`the budget ${id} is exceeded`] : [],
      ),
    ];
  }

  #checkTransfers(transfers: readonly Transfer[]): string[] {
    const problems: string[] = [];
    for (const transfer of transfers) {
      const { seq, id, debit, credit, code, hold_id } = transfer;
      const amount = BigInt(transfer.amount);
      this.#seq = seq;
      this.#balances.set(debit, (this.#balances.get(debit) ?? 0n) - amount);
      this.#balances.set(credit, (this.#balances.get(credit) ?? 0n) + amount);
      if (amount <= 0n) problems.push(`the transfer ${id} moves ${amount}`);
      if (hold_id === null && code !== "signup")
        problems.push(`the transfer ${id} moves credits outside of any hold`);
      if (hold_id !== null) this.#paid.set(hold_id, [...(this.#paid.get(hold_id) ?? []), transfer]);
    }
    return problems;
  }

  #checkBalances(accounts: readonly Account[], holds: readonly Hold[]): string[] {
    const problems: string[] = [];
    let sum = 0n;
    for (const { id, kind, posted, held } of accounts) {
      const balance = this.#balances.get(id) ?? 0n;
      sum += balance;
      if (kind === "system") continue;
      const open = holds.filter(({ account, state }) => account === id && state === "open");
      const expected = open.reduce((total, { amount }) => total + BigInt(amount), 0n);
      if (BigInt(posted) !== balance) problems.push(`${id} has ${posted} and its transfers make ${balance}`);
      if (BigInt(held) !== expected) problems.push(`${id} holds ${held} and its open holds make ${expected}`);
      if (balance < 0n || BigInt(posted) < BigInt(held))
        problems.push(`${id} is below zero: ${posted}, ${held} held`);
    }
    if (sum !== 0n) problems.push(`the balances sum to ${sum}`);
    return problems;
  }

  #checkHolds(holds: readonly Hold[]): string[] {
    const problems: string[] = [];
    for (const hold of holds) {
      const before = this.#holds.get(hold.id);
      this.#holds.set(hold.id, hold);
      if (before && before.state !== "open" && before.state !== hold.state)
        problems.push(`the hold of ${hold.id} was ${before.state} and is ${hold.state} now`);
      const paid = (this.#paid.get(hold.id) ?? []).reduce((sum, { amount }) => sum + BigInt(amount), 0n);
      if (
        paid !== BigInt(hold.settled) ||
        paid > BigInt(hold.amount) ||
        (paid > 0n && hold.state !== "settled")
      )
        problems.push(`the hold of ${hold.id} is ${hold.state}, held ${hold.amount} and paid ${paid}`);
      if (hold.state === "settled" && before?.state !== "settled") problems.push(...this.#checkPayment(hold));
    }
    if (holds.length < this.#holds.size) problems.push("a hold has vanished");
    return problems;
  }

  /** Nobody has more than what of its words reached the caller can cost. */
  #checkPayment({ id }: Hold): string[] {
    const request = this.#records.requests.find(({ jobIds }) => jobIds.has(id));
    const transfers = this.#paid.get(id) ?? [];
    if (!request) return [`${id} was paid, and its caller was never told of it`];
    const problems: string[] = [];
    let owedToAll = 0n;
    for (const provider of new Set(request.speeches.map((speech) => speech.provider))) {
      const owed = request.speeches
        .filter((speech) => speech.provider === provider)
        .reduce((sum, speech) => sum + mostOwed(speech, request), 0n);
      owedToAll += owed;
      const paid = transfers
        .filter(({ credit }) => credit === `user:${provider}`)
        .reduce((sum, { amount }) => sum + BigInt(amount), 0n);
      if (paid > owed)
        problems.push(
          `${provider} was paid ${paid} for ${id}, and what was relayed of it costs ${owed} at most`,
        );
    }
    const total = transfers.reduce((sum, { amount }) => sum + BigInt(amount), 0n);
    if (total > owedToAll)
      problems.push(`${id} cost ${total}, and what was relayed costs ${owedToAll} at most`);
    for (const { credit } of transfers)
      if (credit !== FEES && !request.speeches.some(({ provider }) => credit === `user:${provider}`))
        problems.push(`${credit} was paid for ${id}, of which it said nothing`);
    return problems;
  }

  #checkJobs(jobs: readonly JobRow[]): string[] {
    const problems: string[] = [];
    for (const job of jobs) {
      const before = this.#jobs.get(job.id);
      this.#jobs.set(job.id, job);
      if (
        before &&
        before.state !== "running" &&
        (before.state !== job.state || before.cost_micro !== job.cost_micro)
      )
        problems.push(`${job.id} ended as ${before.state} and is ${job.state} now`);
      const hold = this.#holds.get(job.id);
      if (!hold || (hold.state === "open") !== (job.state === "running"))
        problems.push(`${job.id} is ${job.state} and its hold is ${hold?.state ?? "not there"}`);
      if (BigInt(job.cost_micro ?? 0) !== BigInt(hold?.settled ?? 0))
        problems.push(`${job.id} says that it cost ${job.cost_micro}, and ${hold?.settled} was paid`);
    }
    return problems;
  }
}

/**
 * By the node's price. Of an honest node a token for each piece, for the share of what it said that got through before the
 * caller left. Of the others what they may: all of the input, and a token for each byte.
 */
function mostOwed(speech: Speech, { relayed, inputTokensMax, outputTokensMax }: RequestRecord): bigint {
  const heard = relayedOf(speech.name, relayed);
  if (heard.length === 0) return 0n;
  const { per_request, per_million_input, per_million_output, minimum = "0" } = speech.price;
  const bytes = heard.reduce((sum, { piece }) => sum + piece.length, 0);
  const claimed = speech.isHonest ? Math.ceil((speech.pieces.length * bytes) / lengthOf(speech)) : bytes;
  const output = BigInt(Math.min(claimed, outputTokensMax));
  const input = BigInt(speech.isHonest ? Math.ceil(inputTokensMax / BYTES_PER_TOKEN) : inputTokensMax);
  const micro = input * BigInt(per_million_input) + output * BigInt(per_million_output);
  const owed = BigInt(per_request) + (micro + 999_999n) / 1_000_000n;
  return owed > BigInt(minimum) ? owed : BigInt(minimum);
}

const lengthOf = ({ pieces }: Speech): number => pieces.reduce((sum, { length }) => sum + length, 0);

/** What is taken for a token where nobody counts. */
const BYTES_PER_TOKEN = 4;
const PIECE = /((?:agent|rogue)\d+#\d+)\.(\d+)x* /y;

function piecesOf(text: string): { name: string; at: number; piece: string }[] | null {
  const pieces: { name: string; at: number; piece: string }[] = [];
  PIECE.lastIndex = 0;
  while (PIECE.lastIndex < text.length) {
    const found = PIECE.exec(text);
    if (!found) return null;
    pieces.push({ name: found[1]!, at: Number(found[2]), piece: found[0] });
  }
  return pieces;
}

const relayedOf = (name: string, relayed: string) =>
  (piecesOf(relayed) ?? []).filter((piece) => piece.name === name);

/** What is wrong with one request when all is over: its caller has one end, and no word that was not said for it. */
export function requestProblems(request: RequestRecord, jobs: Auditor["jobs"]): string[] {
  const { n, answer, relayed, speeches, jobIds } = request;
  if (!answer) return [`request ${n} has neither an answer nor an error`];
  const problems: string[] = [];
  const pieces = piecesOf(relayed);
  if (!pieces) problems.push(`request ${n} was handed something that no node said`);
  const heard = new Map<string, number>();
  let last = "";
  for (const { name, at } of pieces ?? []) {
    if (!speeches.some((speech) => speech.name === name))
      problems.push(`request ${n} was handed words for another: ${name}`);
    if (at !== (heard.get(name) ?? 0) || (at > 0 && last !== name))
      problems.push(`request ${n} was handed piece ${at} of ${name} after ${heard.get(name) ?? 0} of it`);
    heard.set(name, at + 1);
    last = name;
  }
  if (answer.outcome === "completed") {
    if (answer.text !== relayed)
      problems.push(
        `request ${n} got ${answer.text.length} characters of ${relayed.length} that were relayed`,
      );
    const speech = speeches.find(({ name }) => name === last);
    if (last.startsWith("agent") && speech && heard.get(last) !== speech.pieces.length)
      problems.push(
        `request ${n} was completed after ${heard.get(last)} of ${speech.pieces.length} pieces of ${last}`,
      );
  }
  if (answer.outcome === "cut off") problems.push(`the hub cut request ${n} off without a word`);
  if (answer.outcome === "no end") problems.push(`request ${n} has a stream that just stops`);
  if (jobIds.size > 1) problems.push(`request ${n} became ${jobIds.size} jobs`);
  for (const id of jobIds) {
    const job = jobs.get(id);
    if (job?.state === "running") problems.push(`${id} never ended`);
    if (answer.costMicro !== undefined && BigInt(job?.cost_micro ?? 0) > BigInt(answer.costMicro))
      problems.push(`request ${n} was told ${answer.costMicro} and charged ${job?.cost_micro}`);
  }
  return problems;
}
