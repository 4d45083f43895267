/** One POST of a webhook, as Standard Webhooks wants it signed: HMAC-SHA256 over id, time and body. */
import { createHmac } from "node:crypto";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { publicLookup, refuseAddress } from "./addresses.ts";

/** From the look-up of the name to the end of the answer. */
export const SEND_TIMEOUT_MS = 10_000;
/** Of the answer's body: it is read, so that the receiver can end it, and not kept. */
export const ANSWER_BYTES_MAX = 16 * 1024;

export interface Message {
  /** The same for every try: receivers tell repeats by it. */
  id: string;
  url: string;
  secret: string;
  payload: string;
}

/** The value of `webhook-signature`. */
export function signatureOf(message: Message, timestampS: number): string {
  const key = Buffer.from(message.secret.replace(/^whsec_/, ""), "base64");
  const signed = `${message.id}.${timestampS}.${message.payload}`;
  return `v1,${createHmac("sha256", key).update(signed).digest("base64")}`;
}

export interface SendOptions {
  nowMs: () => number;
  /** Plain HTTP and addresses that are not public: for tests, and hubs whose users are all trusted. */
  allowPrivate: boolean;
  timeoutMs?: number;
  signal?: AbortSignal;
  lookup?: ReturnType<typeof publicLookup>;
}

/** Resolves with the status; redirects are not followed. Rejects where no answer came in time. */
export function send(message: Message, options: SendOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    refuseAddress(message.url, options.allowPrivate);
    const timestampS = Math.floor(options.nowMs() / 1000);
    const body = Buffer.from(message.payload);
    const url = new URL(message.url);
    const request = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, {
      method: "POST",
      agent: false, // a kept connection would skip the look-up
      ...(options.allowPrivate ? {} : { lookup: options.lookup ?? publicLookup() }),
      ...(options.signal ? { signal: options.signal } : {}),
      headers: {
        "content-type": "application/json",
        "content-length": body.length,
        "user-agent": "gpu-for-everyone-webhooks",
        "webhook-id": message.id,
        "webhook-timestamp": String(timestampS),
        "webhook-signature": signatureOf(message, timestampS),
      },
    });
    const late = () => request.destroy(new Error("no answer in time"));
    const timer = setTimeout(late, options.timeoutMs ?? SEND_TIMEOUT_MS);
    request.on("close", () => clearTimeout(timer));
    request.on("error", reject);
    request.on("response", (response) => {
      let bytes = 0;
      const done = () => {
        resolve(response.statusCode ?? 0);
        request.destroy();
      };
      response.on("data", (piece: Buffer) => {
        bytes += piece.length;
        if (bytes > ANSWER_BYTES_MAX) done();
      });
      response.on("end", done);
      response.on("error", reject);
    });
    request.end(body);
  });
}
