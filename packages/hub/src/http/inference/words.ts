/** What jobs/ finds fault with is named in OpenAI's words; a dialect names it as its caller wrote it. */
import { GfeError } from "@gfe/protocol";

/** OpenAI's name of a field → the dialect's. */
export type FieldNames = Readonly<Record<string, string>>;

/** The same error with the dialect's name of the field, in its text too: not every dialect has a place for it. */
export function inWords(error: GfeError, names: FieldNames): GfeError {
  if (error.code !== "unsupported_parameter" || error.param === undefined) return error;
  const param = names[error.param] ?? error.param;
  if (error.param === param && error.message.includes(param)) return error;
  return new GfeError(error.code, `${param}: ${error.message}`, { param, cause: error.cause });
}

/** What `run` resolves with; what it throws, in the dialect's words. */
export async function namedIn<T>(names: FieldNames, run: Promise<T>): Promise<T> {
  try {
    return await run;
  } catch (error) {
    throw error instanceof GfeError ? inWords(error, names) : error;
  }
}
