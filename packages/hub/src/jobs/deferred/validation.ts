/** From a batch's file to its lines. A file with a malformed line runs not at all: half a batch helps nobody. */
import { isTooDeep, JSON_DEPTH_MAX, newId } from "@gfe/protocol";
import type pg from "pg";
import { type BatchEndpoint, type BatchFault, kindOfEndpoint } from "./batches.ts";
import { FILE_LIMITS, fileLines } from "./files.ts";

/** Faults that are told; there is no use in more. */
export const FAULTS_MAX = 50;
const CUSTOM_ID_MAX = 256;
/** Lines that one statement adds. */
const PAGE = 500;

export interface BatchLine {
  line: number;
  customId: string;
  model: string;
  /** Checked when the line is run, by the schema of its endpoint: what is wrong with it is that line's own error. */
  body: string;
}

/** What a line asks for, or what is wrong with it. `seen` are the custom ids so far. */
export function parseLine(
  text: string,
  line: number,
  endpoint: BatchEndpoint,
  seen: Set<string>,
): BatchLine | BatchFault {
  const fault = (code: string, message: string, param: string | null = null): BatchFault => ({
    code,
    message,
    line,
    param,
  });
  if (text.length > FILE_LIMITS.line)
    return fault("line_too_long", `A request has at most ${FILE_LIMITS.line} characters`);
  const request = parseJson(text);
  if (!isObject(request)) return fault("invalid_json_line", "This line is not a JSON object");
  if (isTooDeep(request))
    return fault("invalid_json_line", `This line is nested deeper than ${JSON_DEPTH_MAX} levels`);
  const { custom_id: customId, method, url, body } = request;
  if (
    typeof customId !== "string" ||
    customId === "" ||
    customId.length > CUSTOM_ID_MAX ||
    /\p{Cc}/u.test(customId)
  )
    return fault(
      "invalid_custom_id",
      `custom_id must be printable text of 1 to ${CUSTOM_ID_MAX} characters`,
      "custom_id",
    );
  if (seen.has(customId))
    return fault("duplicate_custom_id", "Another line has the same custom_id", "custom_id");
  seen.add(customId);
  if (method !== undefined && method !== "POST")
    return fault("invalid_method", "method must be POST", "method");
  if (url !== endpoint)
    return fault("mismatched_endpoint", `url must be ${endpoint}, as the batch says`, "url");
  if (!isObject(body)) return fault("missing_body", "body must be an object", "body");
  const model = typeof body.model === "string" ? printable(body.model) : "";
  return { line, customId, model, body: JSON.stringify(body) };
}

/**
 * Takes one batch that is to be validated, and adds its lines or fails it, in one transaction; false where there is
 * none. A hub that dies meanwhile leaves it as it was.
 */
export async function validateOne(pool: pg.Pool): Promise<boolean> {
  const client = await pool.connect();
  let taken: { id: string } | undefined;
  try {
    await client.query("BEGIN");
    const { rows } = await client.query(
      "SELECT * FROM batches WHERE state = 'validating' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
    );
    taken = rows[0];
    if (taken) await validate(client, taken);
    await client.query("COMMIT");
    return rows.length > 0;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    // What the database cannot take now, it will not take later: it must not stand in the way of other batches.
    if (taken && /^22/.test(String((error as { code?: unknown }).code))) {
      const fault: BatchFault = {
        code: "unreadable_file",
        message: "The file cannot be read",
        line: null,
        param: null,
      };
      await fail(client, taken, [fault]);
      return true;
    }
    throw error;
  } finally {
    client.release();
  }
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
async function validate(client: pg.PoolClient, batch: any): Promise<void> {
  const seen = new Set<string>();
  const faults: BatchFault[] = [];
  let page: BatchLine[] = [];
  let line = 0;
  await client.query("SAVEPOINT lines");
  for await (const text of fileLines(client, batch.input_file_id)) {
    line++;
    if (text.trim() === "") continue;
    if (seen.size >= FILE_LIMITS.lines) {
      faults.push({
        code: "too_many_lines",
        message: `At most ${FILE_LIMITS.lines} requests`,
        line,
        param: null,
      });
      break;
    }
    const parsed = parseLine(text, line, batch.endpoint, seen);
    if ("code" in parsed) faults.push(parsed);
    else page.push(parsed);
    if (faults.length >= FAULTS_MAX) break;
    if (page.length < PAGE) continue;
    await addLines(client, batch, page);
    page = [];
  }
  if (faults.length === 0 && seen.size === 0)
    faults.push({
      code: "empty_file",
      message: "The file has no requests, or was deleted",
      line: null,
      param: null,
    });
  if (faults.length > 0) {
    await client.query("ROLLBACK TO SAVEPOINT lines");
    return fail(client, batch, faults);
  }
  await addLines(client, batch, page);
  await client.query(
    "UPDATE batches SET state = 'in_progress', total = $2, in_progress_at = now() WHERE id = $1",
    [batch.id, seen.size],
  );
}

async function fail(client: pg.PoolClient, batch: { id: string }, faults: BatchFault[]): Promise<void> {
  await client.query(
    `WITH failed AS (
       UPDATE batches SET state = 'failed', errors = $2, completed = 0, failed = 0, ended_at = now() WHERE id = $1
       RETURNING user_id
     ) SELECT webhook_enqueue(user_id, 'batch.failed', $1, 'failed') FROM failed`,
    [batch.id, JSON.stringify(faults)],
  );
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
async function addLines(client: pg.PoolClient, batch: any, lines: BatchLine[]): Promise<void> {
  await client.query(
    `INSERT INTO deferred_jobs (id, user_id, payer, lane, batch_id, line, custom_id, kind, model, priority, body, expires_at)
     SELECT l.id, $1, $2, $3, $3, l.line, l.custom_id, $4, l.model, 'batch', l.body, $5
     FROM unnest($6::text[], $7::integer[], $8::text[], $9::text[], $10::text[]) AS l (id, line, custom_id, model, body)`,
    [
      ...[batch.user_id, batch.payer, batch.id],
      ...[kindOfEndpoint[batch.endpoint as BatchEndpoint], batch.expires_at],
      lines.map(() => newId("breq")),
      ...[lines.map(({ line }) => line), lines.map(({ customId }) => customId)],
      ...[lines.map(({ model }) => model), lines.map(({ body }) => body)],
    ],
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Of a name that nobody has checked yet, what a database can keep. */
const printable = (text: string): string => text.replace(/\p{Cc}/gu, "").slice(0, 200);
