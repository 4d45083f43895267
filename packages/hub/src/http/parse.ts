import { GfeError } from "@gfe/protocol";
import { z } from "zod";

/** An id, cursor or code in an address: one of ours, or at least nothing that the database cannot read. */
export const nameOf = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^[\x20-\x7e]*$/, "is not a name of ours");

/** A schema's message where a field is known, and what it asks for is done by no engine through this hub. */
export const NOT_SUPPORTED = "is not supported";

/** The checked body, or GfeError invalid_request that names the first field at fault. */
export function parseBody<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  if (body === null || typeof body !== "object" || Array.isArray(body)) {
    throw new GfeError("invalid_request", "The body must be a JSON object");
  }
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = deepest(parsed.error.issues[0]!);
  const param = pathText(issue.path);
  if (issue.code === "unrecognized_keys") {
    const name = [...issue.path, issue.keys[0]!];
    throw new GfeError("unsupported_parameter", `Unknown parameter: ${pathText(name)}`, {
      param: pathText(name),
    });
  }
  const code = issue.message === NOT_SUPPORTED ? "unsupported_parameter" : "invalid_request";
  throw new GfeError(code, param === "" ? issue.message : `${param}: ${issue.message}`, { param });
}

type Issue = z.core.$ZodIssue;

/** Inside a union, the issue of the alternative that got furthest says most. */
function deepest(issue: Issue): Issue {
  if (issue.code !== "invalid_union") return issue;
  let best: Issue | null = null;
  for (const alternative of issue.errors) {
    for (const inner of alternative) {
      const found = deepest({ ...inner, path: [...issue.path, ...inner.path] } as Issue);
      if (!best || found.path.length > best.path.length) best = found;
    }
  }
  return best && best.path.length > issue.path.length ? best : issue;
}

/** ["messages", 0, "content"] → `messages[0].content`. */
function pathText(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path)
    text += typeof part === "number" ? `[${part}]` : `${text === "" ? "" : "."}${String(part)}`;
  return text;
}
