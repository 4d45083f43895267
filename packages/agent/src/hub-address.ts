import { LINK_PATH } from "@gfe/protocol";
import { AgentError } from "./errors.ts";

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\]|.+\.localhost)$/i;

export interface HubAddress {
  /** `https://hub.example`: what the hub's key is pinned under. */
  origin: string;
  /** Where the agent dials. */
  linkUrl: string;
}

/**
 * Reads a hub's address. Plain http is refused but for this machine, because the agent token would travel in clear
 * text; `allowInsecure` is for networks that are private by other means.
 */
export function parseHubAddress(text: string, allowInsecure = false): HubAddress {
  let url: URL;
  try {
    url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `https://${text}`);
  } catch {
    throw new AgentError("invalid_hub", `"${text}" is not the address of a hub`);
  }
  const scheme = { "http:": "http:", "ws:": "http:", "https:": "https:", "wss:": "https:" }[url.protocol];
  if (!scheme || url.username || url.password)
    throw new AgentError("invalid_hub", `"${url.protocol}//${url.host}" is not the address of a hub`);
  if (scheme === "http:" && !allowInsecure && !LOOPBACK.test(url.hostname))
    throw new AgentError(
      "insecure_hub",
      `${url.host} would be dialled without encryption, and the agent token could be read on the way: use https://, or allow it explicitly on a private network`,
    );
  return {
    origin: `${scheme}//${url.host}`,
    linkUrl: `${scheme === "http:" ? "ws:" : "wss:"}//${url.host}${LINK_PATH}`,
  };
}
