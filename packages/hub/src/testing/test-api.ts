/** The hub's API as a test calls it, and people with the secrets they need. */
import type { KeyScope } from "@gfe/protocol";
import type { TestHub } from "./test-hub.ts";

export interface Answer {
  status: number;
  headers: Headers;
  /** Parsed where it is JSON, else text. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  body: any;
}

/** Whose credentials a call carries: a key, or a session with the Origin that a browser would send. */
export type Credentials = { key: string } | { cookie: string };

export interface Person {
  userId: string;
  email: string;
  cookie: string;
}

/** JSON in, JSON out; text bodies go as they are. */
export async function call(
  hub: TestHub,
  request: string,
  as?: Credentials,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const [method = "GET", path = "/"] = request.split(" ");
  const response = await fetch(hub.url + path, {
    method,
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(as && "key" in as ? { authorization: `Bearer ${as.key}` } : {}),
      ...(as && "cookie" in as ? { cookie: as.cookie, origin: hub.url } : {}),
      ...headers,
    },
    body: body === undefined ? null : typeof body === "string" ? body : JSON.stringify(body),
    redirect: "manual",
  });
  const text = await response.text();
  const isJson = text !== "" && /[/+]json/.test(response.headers.get("content-type") ?? "");
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

/** A new key of somebody's, with exactly these scopes. */
export async function newKey(
  hub: TestHub,
  { cookie }: Person,
  scopes: KeyScope[],
  more: object = {},
): Promise<{ id: string; key: string }> {
  const { status, body } = await call(hub, "POST /api/v1/keys", { cookie }, { label: "k", scopes, ...more });
  if (status !== 201) throw new Error(`a key was answered ${status} ${JSON.stringify(body)}`);
  return { id: body.key.id, key: body.secret };
}

/** A new agent token of somebody's. */
export async function newAgentToken(
  hub: TestHub,
  { cookie }: Person,
): Promise<{ id: string; secret: string }> {
  const { body } = await call(hub, "POST /api/v1/agent-tokens", { cookie }, { label: "t" });
  return { id: body.agent_token.id, secret: body.secret };
}
