/** From a batch's ended lines to its files, in OpenAI's format; the lines themselves are deleted with that. */
import { type ErrorCode, errorRegistry, GfeError, toOpenAiError } from "@gfe/protocol";
import type pg from "pg";
import { FileWriter } from "./files.ts";
import type { DeferredState, KeptError } from "./store.ts";

/** Lines that are read at once. */
const PAGE = 200;

export interface EndedLine {
  id: string;
  line: number;
  custom_id: string;
  state: DeferredState;
  answer: string | null;
  error: string | null;
  job_id: string | null;
}

/** One line of the output file (for answers) or of the error file. `answer` is JSON already. */
export function resultLine(line: EndedLine): string {
  const head = `"id":${JSON.stringify(line.id)},"custom_id":${JSON.stringify(line.custom_id)}`;
  const response = (status: number, body: string) =>
    `{${head},"response":{"status_code":${status},"request_id":${JSON.stringify(line.job_id ?? line.id)},"body":${body}},"error":null}\n`;
  const unanswered = (code: string, message: string) =>
    `{${head},"response":null,"error":${JSON.stringify({ code, message })}}\n`;
  switch (line.state) {
    case "completed":
      return response(200, line.answer!);
    case "expired":
      return unanswered("batch_expired", "The completion window ended before this request was run");
    case "cancelled":
      return unanswered("batch_cancelled", "The batch was cancelled before this request was run");
    default: {
      const error = gfeErrorOf(line.error === null ? null : (JSON.parse(line.error) as KeptError));
      return response(error.status, JSON.stringify(toOpenAiError(error)));
    }
  }
}

export function gfeErrorOf(kept: KeptError | null): GfeError {
  if (!kept || !(kept.code in errorRegistry)) return new GfeError("internal");
  return new GfeError(
    kept.code as ErrorCode,
    kept.message,
    kept.param === undefined ? {} : { param: kept.param },
  );
}

/** Ends one batch whose lines have all ended, in one transaction; false where there is none. */
export async function finaliseOne(pool: pg.Pool): Promise<boolean> {
  const client = await pool.connect();
  try {
    const { rows: due } = await client.query<{ id: string }>(
      `UPDATE batches SET state = CASE state WHEN 'cancelling' THEN state ELSE 'finalizing' END,
         finalizing_at = coalesce(finalizing_at, now())
       WHERE id = (SELECT id FROM batches b WHERE ended_at IS NULL AND state <> 'validating'
         AND NOT EXISTS (SELECT FROM deferred_jobs d WHERE d.batch_id = b.id AND d.ended_at IS NULL)
         ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
       RETURNING id`,
    );
    if (!due[0]) return false;
    await client.query("BEGIN");
    const { rows } = await client.query(
      "SELECT * FROM batches WHERE id = $1 AND ended_at IS NULL FOR UPDATE",
      [due[0].id],
    );
    if (rows[0]) await finalise(client, rows[0]);
    await client.query("COMMIT");
    return true;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
async function finalise(client: pg.PoolClient, batch: any): Promise<void> {
  const { user_id: userId, id } = batch;
  const counts: Partial<Record<DeferredState, number>> = {};
  const writers: Partial<Record<"output" | "error", FileWriter>> = {};
  for (let after = 0; ; ) {
    const { rows } = await client.query<EndedLine>(
      `SELECT id, line, custom_id, state, answer, error, job_id FROM deferred_jobs
       WHERE batch_id = $1 AND line > $2 ORDER BY line LIMIT ${PAGE}`,
      [id, after],
    );
    for (const line of rows) {
      counts[line.state] = (counts[line.state] ?? 0) + 1;
      const kind = line.state === "completed" ? "output" : "error";
      writers[kind] ??= await FileWriter.begin(client, {
        ...{ userId, purpose: "batch_output", filename: `${id}_${kind}.jsonl` },
      });
      await writers[kind].write(Buffer.from(resultLine(line)));
    }
    if (rows.length < PAGE) break;
    after = rows.at(-1)!.line;
  }
  const output = await writers.output?.finish();
  const error = await writers.error?.finish();
  const state = batch.cancelling_at !== null ? "cancelled" : counts.expired ? "expired" : "completed";
  await client.query(
    `UPDATE batches SET state = $2, completed = $3, failed = $4, output_file_id = $5, error_file_id = $6, ended_at = now()
     WHERE id = $1`,
    [id, state, counts.completed ?? 0, counts.failed ?? 0, output?.id ?? null, error?.id ?? null],
  );
  await client.query("DELETE FROM deferred_jobs WHERE batch_id = $1", [id]);
  await client.query("SELECT webhook_enqueue($1, 'batch.' || $2, $3, $2)", [userId, state, id]);
}
